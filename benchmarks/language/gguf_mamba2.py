"""Mamba-2 for llama.cpp: nothing but Mamba-2 mixers, each after a norm (``src/models/mamba2.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.language.gguf_layout import (
    GgufModel,
    Metadata,
    Weights,
    mixer,
    mixer_metadata,
    require_common,
    without_tokenizer,
)

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURE = "mamba2"
# Nothing of the model depends on it; llama.cpp wants the key.
_CONTEXT = 2**20


def mamba2(module: nn.Module) -> GgufModel:
    """What llama.cpp needs to compute a transformers ``Mamba2ForCausalLM``.

    Raises:
        Unsupported: for options that llama.cpp's graph does not have.
    """
    config: Any = module.config
    require_common(config)
    weights = Weights("Mamba2ForCausalLM", module.state_dict())
    matrices = {
        "token_embd.weight": weights.take("backbone.embeddings.weight"),
        "output.weight": weights.take("lm_head.weight"),
    }
    rest = {"output_norm.weight": weights.take("backbone.norm_f.weight")}
    for layer in range(config.num_hidden_layers):
        source, block = f"backbone.layers.{layer}", f"blk.{layer}"
        matrices[f"{block}.ssm_in.weight"] = weights.take(f"{source}.mixer.in_proj.weight")
        matrices[f"{block}.ssm_out.weight"] = weights.take(f"{source}.mixer.out_proj.weight")
        rest |= mixer(weights, f"{source}.mixer", block, config.n_groups)
        rest[f"{block}.attn_norm.weight"] = weights.take(f"{source}.norm.weight")
    weights.require_all_taken()
    if config.tie_word_embeddings:
        # llama.cpp takes the embedding where there is no head.
        del matrices["output.weight"]
    return GgufModel(ARCHITECTURE, _metadata(config), matrices | rest, frozenset(matrices))


def _metadata(config: Any) -> Metadata:
    name = ARCHITECTURE
    return {
        f"{name}.context_length": _CONTEXT,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": config.num_hidden_layers,
        # There is neither a feed-forward network nor attention; llama.cpp wants the keys.
        f"{name}.feed_forward_length": 0,
        f"{name}.attention.head_count": 0,
        f"{name}.attention.layer_norm_rms_epsilon": float(config.layer_norm_epsilon),
        **mixer_metadata(
            name,
            inner=config.expand * config.hidden_size,
            heads=config.num_heads,
            groups=config.n_groups,
            state=config.state_size,
            kernel=config.conv_kernel,
        ),
        **without_tokenizer(name, config.vocab_size),
    }
