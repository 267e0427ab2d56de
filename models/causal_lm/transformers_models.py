"""Builds ``...ForCausalLM`` of transformers from a layout, with seeded random weights on which errors show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from hycompile.models.causal_lm.layouts import Layout
from hycompile.models.sane_weights import set_sane_weights
from hycompile.models.transformers_import import transformers_class

# Step sizes of state spaces are drawn between these, on a logarithmic scale.
_STEPS = (0.05, 0.5)


def make(layout: Layout, seed: int = 0) -> Any:
    """The model in ``eval()``, float32, as transformers has it.

    Raises:
        CaptureError: transformers cannot be imported.
    """
    config = transformers_class(f"{layout.prefix}Config")(**layout.config)
    config.use_cache = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # One buffer of RecurrentGemma is bfloat16 by itself.
        model = transformers_class(f"{layout.prefix}ForCausalLM")(config).float().eval()
    # Token by token, as the definition has it: other ways that transformers knows need float32.
    model.set_experts_implementation("eager")
    set_sane_weights(_Unrun(model), torch.empty(0), seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        _fill_experts(model, generator)
        _fill_mixers(model, generator)
    return model


class _Unrun(nn.Module):
    """``set_sane_weights`` runs a model to fit its batch norms; language models have none, so nothing need run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens


def _fill_experts(model: nn.Module, generator: Generator) -> None:
    """Weights of experts and routers are stacked parameters, which transformers starts near zero or leaves at it."""
    for name, parameter in model.named_parameters():
        if (parameter.ndim == 3 and ".experts." in name) or name.endswith(("router.weight", "gate.weight")):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))


def _fill_mixers(model: nn.Module, generator: Generator) -> None:
    """Convolutions that pass on what comes in, and steps as short as in Mamba's own recipe: states that remember.

    These convolutions stand on no residual path, so they need not be weak; where they are, what comes out of a state
    space, a product of three of their outputs, vanishes beside its skip connection.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 3 and parameter.shape[1] == 1:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5)
        elif name.endswith(("dt_bias", "dt_proj.bias")):
            low, high = _STEPS
            step = low * (high / low) ** torch.rand(parameter.shape, generator=generator)
            # The inverse of softplus.
            parameter.copy_(step + torch.log(-torch.expm1(-step)))
