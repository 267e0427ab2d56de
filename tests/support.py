"""Small helpers of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from hycompile.capture import capture
from hycompile.program import Program
from hycompile.schema import is_call

ROOT = Path(__file__).parents[1]


def sane(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in ``eval()`` with batch-norm statistics such as training leaves, so that a wrong fold is seen."""
    generator = torch.Generator().manual_seed(seed)

    def near(value: float, spread: float, like: torch.Tensor) -> torch.Tensor:
        return value + spread * (2 * torch.rand(like.shape, generator=generator) - 1)

    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, _BatchNorm):
                if child.running_mean is not None and child.running_var is not None:
                    child.running_mean.copy_(near(0.0, 0.3, child.running_mean))
                    child.running_var.copy_(near(1.0, 0.5, child.running_var))
                if child.affine:
                    child.weight.copy_(near(1.0, 0.5, child.weight))
                    child.bias.copy_(near(0.0, 0.3, child.bias))
    return module.eval()


def captured(module: nn.Module, *args: Any, dynamic_shapes: Any = None) -> Program:
    """A Program of ``module`` with sane batch norms."""
    return capture(sane(module), args, dynamic_shapes=dynamic_shapes)


def count(program: Program, *operators: str) -> int:
    """How many calls of ``operators`` the Program has, over all methods."""
    graphs = [method.graph.graph for method in program.methods.values()]
    return sum(is_call(node, *operators) for graph in graphs for node in graph.nodes)
