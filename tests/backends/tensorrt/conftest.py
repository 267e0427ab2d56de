"""A toy hybrid with dynamic batch and state, and the host as a target with one thing changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.artifact import Artifact
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.device import load_target
from hycompile.lowering import lower
from hycompile.program import Program
from hycompile.target import Precision, Target, TensorrtOptions


class Hybrid(nn.Module):
    """Convolution, attention over positions, and a running mean of what was seen: [N, 3, H, W] to [N, HW/4, 8]."""

    seen: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.qkv = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Linear(8, 24)
        self.register_buffer("seen", torch.zeros(1, 8))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> Tensor:
        q, k, v = self.qkv(self.conv(image).relu().flatten(2).transpose(1, 2)).chunk(3, -1)
        attended = F.scaled_dot_product_attention(q, k, v)
        self.seen.mul_(0.5).add_(attended.mean(1)[:1])
        self.step.add_(1)
        return attended + self.seen


@pytest.fixture
def hybrid() -> Callable[..., Program]:
    """Captures the toy hybrid with a dynamic batch of 1 to ``largest``, unbounded if None."""

    def made(largest: int | None = 16) -> Program:
        torch.manual_seed(0)
        batch = torch.export.Dim("batch", min=1, max=largest)
        return capture(Hybrid().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))

    return made


@pytest.fixture
def aim() -> Callable[..., Target]:
    """The host, with another precision or TensorRT options."""

    def made(precision: Precision = "fp32", **options: str) -> Target:
        tensorrt = TensorrtOptions.model_validate(options)
        return load_target("host").model_copy(update={"precision": precision, "tensorrt": tensorrt})

    return made


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("tensorrt"))


@pytest.fixture
def build(aim: Callable[..., Target], shared_cache: Cache) -> Callable[..., Artifact]:
    """Lowers a program with the ``tensorrt`` backend; equal requests are built once."""

    def made(program: Program, precision: Precision = "fp32", **options: str) -> Artifact:
        return lower(program, aim(precision, **options), "tensorrt", cache=shared_cache)

    return made
