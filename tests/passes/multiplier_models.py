"""A small module of language-model parts with multipliers between them, and two tiny models of transformers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.models.torchvision_schemas import declare_missing_operators

Forward = Callable[["Words", Tensor], Tensor | tuple[Tensor, ...]]
TOKENS, VOCABULARY, WIDTH = 6, 11, 8


class Words(nn.Module):
    """Tables over 11 words, linears over ``[1, 6, 8]``, norms and constants; ``forward`` is given."""

    def __init__(self, forward: Forward, tied: bool = False) -> None:
        super().__init__()
        self.call = forward
        self.embed, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        if tied:
            self.head.weight = self.embed.weight
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in "qkvo")
        self.wide, self.norm, self.layer_norm = nn.Linear(WIDTH, 20), nn.RMSNorm(WIDTH, eps=1e-2), nn.LayerNorm(WIDTH)
        self.plain_norm = nn.RMSNorm(WIDTH, eps=1e-2, elementwise_affine=False)
        self.channels, self.rows = nn.Parameter(torch.rand(WIDTH) + 0.5), nn.Parameter(torch.rand(20) + 0.5)
        self.joined, self.skewed, self.words = (nn.Parameter(torch.rand(size) + 0.5) for size in (28, 16, VOCABULARY))
        self.index: Tensor
        self.register_buffer("index", torch.arange(TOKENS))
        for norm in (self.norm, self.layer_norm):
            nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(self.layer_norm.bias)
        turn = torch.arange(TOKENS)[:, None] / 10 ** torch.arange(4)
        self.cos, self.sin = (nn.Parameter(torch.cat([f(turn), f(turn)], -1)[:, :4]) for f in (torch.cos, torch.sin))

    def forward(self, words: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(self, words)

    def heads(self, x: Tensor) -> Tensor:
        """[1, tokens, 8] as [1, heads, tokens, 4]."""
        return x.reshape(1, TOKENS, 2, 4).transpose(1, 2)

    def turned(self, x: Tensor) -> Tensor:
        """Rotary embedding; the angles pass through exp and log, so that they are no constants."""
        first, second = x.split(2, -1)
        return x * (self.cos * self.index.float().mean().cos()) + torch.cat([-second, first], -1) * self.sin.exp().log()


def attention(m: Words, words: Tensor) -> Tensor:
    """Multipliers of keys before the rotary embedding, of queries and values behind, and of the result."""
    x = m.norm(m.embed(words)) * 0.9
    q, k, v = m.turned(m.heads(m.q(x))) * 1.5, m.turned(m.heads(m.k(x)) * 0.7), m.heads(m.v(x))
    y = F.scaled_dot_product_attention(q, k, v) * 1.1
    return m.o(y.transpose(1, 2).reshape(1, TOKENS, WIDTH)) * 0.8


def tied_head(m: Words, words: Tensor) -> Tensor:
    """Falcon-H1's ends: a multiplied embedding, a norm, a head over the same table, multiplied again."""
    x = m.embed(words) * 1.3
    return m.head(m.norm(x + m.o(x.sigmoid()))) * 0.6


def ranges(m: Words, words: Tensor) -> tuple[Tensor, ...]:
    """Mamba's in_proj: each range of the rows has a multiplier of its own, and another use."""
    z, x, dt = (m.wide(m.embed(words).tanh()) * m.rows).split([8, 8, 4], -1)
    return (z * 2).sigmoid(), x.sigmoid(), (dt[..., 1:] / 4).sigmoid()


def tiny(name: str, tied: bool) -> nn.Module:
    """``falcon_h1`` or ``granitemoehybrid`` of two layers with every multiplier and bias, as tokens to logits."""
    declare_missing_operators()
    for logger in ("torchao", "torch.utils._pytree"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import transformers

        prefix = {"falcon_h1": "FalconH1", "granitemoehybrid": "GraniteMoeHybrid"}[name]
        model_class: Any = getattr(transformers, f"{prefix}ForCausalLM")
    config = model_class.config_class(**_SHAPE, **_CONFIGS[name], tie_word_embeddings=tied)
    module = _Logits(model_class(config)).eval()
    for path, parameter in module.named_parameters():
        if path.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        elif "norm" in path:
            nn.init.normal_(parameter, 1.0, 0.2)
    return module


class _Logits(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, words: Tensor) -> Tensor:
        return self.model(input_ids=words, use_cache=False).logits


_SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 16,
    "mamba_chunk_size": 16, "mamba_proj_bias": True, "max_position_embeddings": 64,
}  # fmt: skip
_CONFIGS: dict[str, dict[str, Any]] = {
    "falcon_h1": {
        "head_dim": 8, "mamba_d_ssm": 64, "attention_bias": True, "mlp_bias": True, "projectors_bias": True,
        "key_multiplier": 0.7, "embedding_multiplier": 1.3, "lm_head_multiplier": 0.6, "ssm_in_multiplier": 1.2,
        "ssm_out_multiplier": 0.8, "attention_in_multiplier": 0.9, "attention_out_multiplier": 1.1,
        "mlp_multipliers": [0.75, 1.25], "ssm_multipliers": [0.5, 1.5, 0.8, 1.2, 0.9],
    },
    "granitemoehybrid": {
        "shared_intermediate_size": 40, "layer_types": ["mamba", "attention"], "num_local_experts": 0,
        "num_experts_per_tok": 0, "position_embedding_type": "rope", "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22, "attention_multiplier": 0.1, "logits_scaling": 6.0,
    },
}  # fmt: skip
