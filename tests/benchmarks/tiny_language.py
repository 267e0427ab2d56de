"""Language hybrids as small as they go, from transformers, with weights that hide no mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hycompile.models.torchvision_schemas import declare_missing_operators

VOCABULARY = 96


def falcon_h1(**options: Any) -> nn.Module:
    """A tiny Falcon-H1 whose every multiplier differs from one and from the others."""
    declare_missing_operators()
    from transformers import FalconH1Config, FalconH1ForCausalLM

    torch.manual_seed(0)
    config: dict[str, Any] = {
        **{"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128},
        **{"mamba_d_ssm": 96, "mamba_n_heads": 6, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 32},
        **{"mamba_chunk_size": 8, "mamba_rms_norm": True, "mamba_norm_before_gate": False},
        **{"embedding_multiplier": 1.3, "lm_head_multiplier": 0.7, "mlp_multipliers": [0.8, 1.1]},
        **{"key_multiplier": 0.6, "attention_in_multiplier": 0.9, "attention_out_multiplier": 1.2},
        **{"ssm_in_multiplier": 1.4, "ssm_out_multiplier": 0.5, "ssm_multipliers": [0.7, 1.2, 0.9, 1.1, 0.8]},
    }
    return _random(FalconH1ForCausalLM(FalconH1Config(**(config | options))))


def mamba2(**options: Any) -> nn.Module:
    """A tiny Mamba-2 of two groups."""
    declare_missing_operators()
    from transformers import Mamba2Config, Mamba2ForCausalLM

    torch.manual_seed(0)
    config: dict[str, Any] = {
        **{"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "expand": 2, "num_heads": 8},
        **{"head_dim": 16, "n_groups": 2, "state_size": 32, "chunk_size": 8, "conv_kernel": 4},
    }
    return _random(Mamba2ForCausalLM(Mamba2Config(**(config | options))))


def _random(module: nn.Module) -> nn.Module:
    """Every parameter away from what it was initialised with: norms are ones and biases zeros else."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            scale = 0.1 if value.ndim > 1 else 0.3
            if not name.endswith("A_log"):
                value.add_(torch.randn_like(value) * scale)
    return module.eval()


MODELS = {"falcon_h1": falcon_h1, "mamba2": mamba2}


def reference(module: nn.Module, tokens: list[int]) -> NDArray[np.float32]:
    """Logits of the last token by transformers, from the whole sequence."""
    with torch.no_grad():
        return module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].numpy()


def error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
