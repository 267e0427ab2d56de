"""Falcon-H1 for llama.cpp: attention beside a Mamba-2 mixer in every layer, with muP multipliers.

llama.cpp's graph (``src/models/falcon-h1.cpp``) has no multipliers, so they go into weights as its converter does it:
each multiplies the output of a linear function, or its input, which is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.language.gguf_layout import (
    Floats,
    GgufModel,
    Metadata,
    Weights,
    mixer,
    mixer_metadata,
    require,
    require_common,
    without_tokenizer,
)

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURE = "falcon-h1"


def falcon_h1(module: nn.Module) -> GgufModel:
    """What llama.cpp needs to compute a transformers ``FalconH1ForCausalLM``.

    Raises:
        Unsupported: for options that llama.cpp's graph does not have.
    """
    config: Any = module.config
    _check(config)
    weights = Weights("FalconH1ForCausalLM", module.state_dict())
    embedding, head = weights.take("model.embed_tokens.weight"), weights.take("lm_head.weight")
    matrices = {
        "token_embd.weight": embedding * config.embedding_multiplier,
        "output.weight": head * config.lm_head_multiplier,
    }
    rest = {"output_norm.weight": weights.take("model.final_layernorm.weight")}
    for layer in range(config.num_hidden_layers):
        source, block = f"model.layers.{layer}", f"blk.{layer}"
        matrices |= _projections(weights, source, block, config)
        rest |= mixer(weights, f"{source}.mamba", block, config.mamba_n_groups)
        rest[f"{block}.attn_norm.weight"] = weights.take(f"{source}.input_layernorm.weight")
        # The one norm llama.cpp asks for without a suffix.
        rest[f"{block}.ffn_norm"] = weights.take(f"{source}.pre_ff_layernorm.weight")
    weights.require_all_taken()
    return GgufModel(ARCHITECTURE, _metadata(config), matrices | rest, frozenset(matrices))


def _check(config: Any) -> None:
    require_common(config)
    require(
        not (config.mamba_rms_norm and config.mamba_norm_before_gate),
        "mamba_norm_before_gate=True",
        "llama.cpp applies the gate before the norm",
        "set mamba_norm_before_gate=False",
    )
    rope = config.rope_parameters["rope_type"]
    require(rope == "default", f"rope_type={rope!r}", "only plain rotary embeddings are written", "use 'default'")


def _projections(weights: Weights, source: str, block: str, config: Any) -> dict[str, Floats]:
    attention, feed_forward = f"{source}.self_attn", f"{source}.feed_forward"
    into, out = config.attention_in_multiplier, config.attention_out_multiplier
    gate, down = config.mlp_multipliers
    scaled = {
        "attn_q": (f"{attention}.q_proj", into),
        "attn_k": (f"{attention}.k_proj", into * config.key_multiplier),
        "attn_v": (f"{attention}.v_proj", into),
        "attn_output": (f"{attention}.o_proj", out),
        "ssm_in": (f"{source}.mamba.in_proj", config.ssm_in_multiplier * _piecewise(config)),
        "ssm_out": (f"{source}.mamba.out_proj", config.ssm_out_multiplier),
        "ffn_gate": (f"{feed_forward}.gate_proj", gate),
        "ffn_up": (f"{feed_forward}.up_proj", 1.0),
        "ffn_down": (f"{feed_forward}.down_proj", down),
    }
    return {
        f"{block}.{name}.weight": weights.take(f"{projection}.weight") * np.float32(factor)
        for name, (projection, factor) in scaled.items()
    }


def _piecewise(config: Any) -> Floats:
    """``ssm_multipliers`` of the rows of the mixer's input projection: gate, x, B, C, time steps [rows, 1]."""
    inner, bc = _inner(config), config.mamba_n_groups * config.mamba_d_state
    sizes = [inner, inner, bc, bc, config.mamba_n_heads]
    return np.repeat(np.asarray(config.ssm_multipliers, np.float32), sizes)[:, None]


def _inner(config: Any) -> int:
    return config.mamba_d_ssm or config.mamba_expand * config.hidden_size


def _metadata(config: Any) -> Metadata:
    name = ARCHITECTURE
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.head_count_kv": config.num_key_value_heads,
        f"{name}.attention.key_length": head_dim,
        f"{name}.attention.value_length": head_dim,
        f"{name}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{name}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        **mixer_metadata(
            name,
            inner=_inner(config),
            heads=config.mamba_n_heads,
            groups=config.mamba_n_groups,
            state=config.mamba_d_state,
            kernel=config.mamba_d_conv,
        ),
        **without_tokenizer(name, config.vocab_size),
    }
