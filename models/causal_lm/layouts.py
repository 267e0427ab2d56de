"""Configurations by model name: what the prefix of the classes is, and what differs from the class's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_VOCABULARY = 97


@dataclass(frozen=True)
class Layout:
    """One architecture of transformers in one size.

    Args:
        prefix: of ``PREFIXForCausalLM`` and ``PREFIXConfig``.
        config: configuration values that are not the class's defaults.
        prompt: tokens of the captured ``prefill``.
        slots: tokens the key-value caches hold.
    """

    prefix: str
    config: dict[str, Any]
    prompt: int = 16
    slots: int = 96


def _tiny(prefix: str, **config: Any) -> Layout:
    """Small enough to test; no size equals another, and every multiplier, bound and group matters."""
    common = {"vocab_size": _VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    return Layout(prefix, {"max_position_embeddings": 256, "pad_token_id": None, **common, **config})


_MAMBA2 = {"mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 2, "mamba_n_heads": 4, "mamba_chunk_size": 8}
_TINY = {
    "bamba": _tiny(
        "Bamba",
        intermediate_size=48,
        num_hidden_layers=3,
        attn_layer_indices=[1],
        time_step_limit=(0.1, 2.0),
        **_MAMBA2,
    ),
    "falcon-h1": _tiny(
        "FalconH1",
        intermediate_size=48,
        num_hidden_layers=2,
        head_dim=12,
        mamba_d_ssm=40,
        mamba_d_head=10,
        tie_word_embeddings=True,
        embedding_multiplier=3.5,
        lm_head_multiplier=0.6,
        key_multiplier=0.8,
        attention_in_multiplier=0.9,
        attention_out_multiplier=0.7,
        ssm_in_multiplier=1.2,
        ssm_out_multiplier=0.5,
        mlp_multipliers=[0.9, 0.6],
        ssm_multipliers=[0.9, 0.8, 0.7, 1.1, 1.2],
        **_MAMBA2,
    ),
    "granite-4": _tiny(
        "GraniteMoeHybrid",
        intermediate_size=24,
        shared_intermediate_size=40,
        num_hidden_layers=3,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_local_experts=6,
        num_experts_per_tok=2,
        embedding_multiplier=3.0,
        logits_scaling=2.0,
        residual_multiplier=0.7,
        attention_multiplier=0.3,
        **_MAMBA2,
    ),
    "jamba": _tiny(
        "Jamba",
        intermediate_size=24,
        num_hidden_layers=4,
        attn_layer_period=4,
        attn_layer_offset=2,
        num_experts=4,
        num_experts_per_tok=2,
        mamba_d_state=8,
        mamba_dt_rank=3,
    ),
    "lfm2": _tiny(
        "Lfm2",
        intermediate_size=48,
        block_auto_adjust_ff_dim=False,
        num_hidden_layers=3,
        layer_types=["conv", "full_attention", "conv"],
        conv_bias=True,
    ),
    "mamba2": _tiny(
        "Mamba2",
        num_hidden_layers=3,
        num_heads=4,
        head_dim=16,
        n_groups=2,
        state_size=8,
        chunk_size=8,
        time_step_limit=(0.1, 2.0),
    ),
    "nemotron-h": _tiny(
        "NemotronH",
        layers_block_type=["linear_attention", "moe", "full_attention", "mlp"],
        intermediate_size=48,
        head_dim=12,
        ssm_state_size=8,
        mamba_num_heads=4,
        mamba_head_dim=10,
        n_groups=2,
        chunk_size=8,
        time_step_min=0.2,
        n_routed_experts=8,
        num_experts_per_tok=3,
        n_group=4,
        topk_group=2,
        moe_intermediate_size=24,
        moe_shared_expert_intermediate_size=40,
        moe_latent_size=20,
        routed_scaling_factor=1.5,
    ),
    "qwen3-next": _tiny(
        "Qwen3Next",
        intermediate_size=48,
        num_hidden_layers=3,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        mlp_only_layers=[2],
        head_dim=16,
        linear_key_head_dim=12,
        linear_value_head_dim=10,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=40,
    ),
    "recurrent-gemma": _tiny(
        "RecurrentGemma",
        intermediate_size=96,
        num_hidden_layers=3,
        lru_width=32,
        attention_window_size=24,
    ),
    "zamba2": _tiny(
        "Zamba2",
        intermediate_size=48,
        num_hidden_layers=4,
        layers_block_type=["linear_attention", "hybrid", "linear_attention", "hybrid"],
        num_key_value_heads=4,
        mamba_d_state=8,
        mamba_ngroups=2,
        n_mamba_heads=4,
        chunk_size=8,
        use_shared_attention_adapter=True,
        adapter_rank=6,
        use_mem_rope=True,
    ),
}
# As published by the makers; layouts only, the weights are random.
_REAL = {
    "falcon-h1-0.5b": Layout(
        "FalconH1",
        {
            "vocab_size": 32784,
            "hidden_size": 1024,
            "intermediate_size": 2048,
            "num_hidden_layers": 36,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 16384,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e11},
            "mamba_d_ssm": 1536,
            "mamba_n_heads": 24,
            "mamba_d_head": 64,
            "mamba_d_state": 128,
            "mamba_chunk_size": 128,
            "mamba_norm_before_gate": False,
            "embedding_multiplier": 5.656854249492381,
            "lm_head_multiplier": 0.0390625,
            "key_multiplier": 0.390625,
            "attention_out_multiplier": 0.9375,
            "ssm_in_multiplier": 1.25,
            "ssm_out_multiplier": 0.23570226039551587,
            "mlp_multipliers": [0.8838834764831844, 0.5859375],
            "ssm_multipliers": [0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738],
        },
        prompt=128,
        slots=1024,
    ),
    "lfm2-350m": Layout(
        "Lfm2",
        {
            "hidden_size": 1024,
            "intermediate_size": 6656,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        },
        prompt=128,
        slots=1024,
    ),
    "mamba2-130m": Layout(
        "Mamba2",
        {
            "vocab_size": 50288,
            "hidden_size": 768,
            "num_hidden_layers": 24,
            "num_heads": 24,
            "head_dim": 64,
            "n_groups": 1,
            "state_size": 128,
            "use_bias": False,
            "tie_word_embeddings": True,
        },
        prompt=128,
        slots=1024,
    ),
    # The feed-forward width counts gate and value together; the default of the class is half of the published one.
    "recurrent-gemma-2b": Layout(
        "RecurrentGemma", {"intermediate_size": 15360, "num_key_value_heads": 1}, prompt=128, slots=2048
    ),
}
LAYOUTS = {f"causal-lm/{name}-tiny": layout for name, layout in _TINY.items()} | {
    f"causal-lm/{name}": layout for name, layout in _REAL.items()
}
