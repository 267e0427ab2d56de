"""Seeded random weights of the statistics that trained models start from, with nothing that a wrong rewrite could hide.

No parameter is left at one constant: norms, skips and biases are off their neutral values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Step sizes of state spaces start log-uniform between these (Gu & Dao 2023).
_STEPS = (1e-3, 1e-1)
_LAMBDA_SPREAD = 0.1


def initialise(model: nn.Module, depth: int, seed: int = 0) -> None:
    """Fill every parameter, in place.

    - matrices: normal, ``1/sqrt(fan_in)``; those that end a residual branch are divided by ``sqrt(depth)``;
    - step sizes: such that softplus of the bias is log-uniform in 0.001 to 0.1;
    - decays: ``A = -1 .. -N`` over a channel's states, or uniform in -1 to -16 for a head;
    - norm weights and skips: uniform 0.5 to 1.5; other vectors normal, 0.1.

    Args:
        model: on any device but meta.
        depth: residual units.
        seed: of the generator, on the CPU: the same weights everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_draw(name, parameter, depth, generator))


def _draw(name: str, parameter: Tensor, depth: int, generator: torch.Generator) -> Tensor:
    shape, leaf = parameter.shape, ".".join(name.split(".")[-2:])
    if leaf.endswith(("dt_bias", "dt_proj.bias", "dt.bias")):
        low, high = (math.log(step) for step in _STEPS)
        step = (low + (high - low) * torch.rand(shape, generator=generator)).exp()
        return step + (-torch.expm1(-step)).log()
    if leaf.endswith("a_log"):
        if len(shape) == 1:
            return (1 + 15 * torch.rand(shape, generator=generator)).log()
        return torch.arange(1, shape[1] + 1).expand(shape).log() + 0.1 * torch.randn(shape, generator=generator)
    if leaf.endswith(("norm.weight", "skip")):
        return 0.5 + torch.rand(shape, generator=generator)
    spread = _LAMBDA_SPREAD
    if len(shape) > 1 and "lambda" not in leaf:
        ends = leaf in ("out_proj.weight", "down.weight")
        spread = shape[-1] ** -0.5 * (depth**-0.5 if ends else 1.0)
    return spread * torch.randn(shape, generator=generator)
