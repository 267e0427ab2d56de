"""What the TVM tests share: a toy hybrid, a stateful module, and builds for the host that are made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.artifact import Artifact
from hycompile.cache import Cache
from hycompile.capture import Call, capture
from hycompile.device import load_target
from hycompile.lowering import lower
from hycompile.program import Program
from hycompile.target import Precision, Target
from tests.support import sane

Build = Callable[..., Artifact]


class Hybrid(nn.Module):
    """Dense, depthwise and grouped convolutions with an unfolded batch norm, attention, norms: [N, 3, H, W] to [N, 10].

    14x14 positions and 10 classes divide by no vector length; the attention's scale is not the usual one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.depthwise, self.grouped = nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Conv2d(32, 32, 3, 1, 1, groups=4)
        self.norm, self.qkv, self.proj = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(image)))
        x = F.gelu(self.grouped(F.silu(self.depthwise(x)) + x))
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(batch, height * width, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=0.7).transpose(1, 2)
        tokens = tokens + self.proj(mixed.reshape(batch, height * width, channels))
        return self.head(tokens.mean(1))


class Memory(nn.Module):
    """A convolution over the last samples, a cache written at a counted position, and that count: all are state."""

    samples: Tensor
    cache: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv1d(4, 4, 3, groups=4), nn.Linear(4, 16)
        self.register_buffer("samples", torch.rand(1, 4, 2))
        self.register_buffer("cache", torch.zeros(1, 6, 16))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        window = torch.cat([self.samples, x], -1)
        row = self.mix(self.conv(window).mean(-1))
        self.samples.copy_(window[..., -2:])
        self.cache.index_copy_(1, self.step.reshape(1), row.unsqueeze(1))
        self.step.add_(1)
        return (self.cache.softmax(1) * row.unsqueeze(1)).sum(1), self.step + 10

    def reset(self, x: Tensor) -> Tensor:
        """Writes one buffer only."""
        self.samples.copy_(x[..., -2:])
        return self.mix(x.mean(-1))


@pytest.fixture(scope="session")
def host() -> Target:
    return load_target("host")


@pytest.fixture(scope="session")
def build(host: Target, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Lowers to a target, by default the host, with the ``tvm`` backend; equal requests are built once."""
    cache = Cache(tmp_path_factory.mktemp("tvm"))

    def made(program: Program, precision: Precision = "fp32", target: Target = host) -> Artifact:
        return lower(program, target, "tvm", precision=precision, cache=cache)

    return made


@pytest.fixture(scope="session")
def hybrid() -> Callable[..., Program]:
    """Captures the toy hybrid, on request with a dynamic batch of 1 to 8."""

    def made(dynamic: bool = False) -> Program:
        torch.manual_seed(0)
        shapes = ({0: torch.export.Dim("batch", min=1, max=8)},) if dynamic else None
        batch = 2 if dynamic else 1
        return capture(sane(Hybrid()), (torch.randn(batch, 3, 28, 28),), dynamic_shapes=shapes, name="hybrid")

    return made


@pytest.fixture(scope="session")
def artifact(build: Build, hybrid: Callable[..., Program]) -> Artifact:
    """The toy hybrid in float32 for the host."""
    return build(hybrid())


@pytest.fixture(scope="session")
def memory() -> Program:
    """The stateful module with both its methods."""
    torch.manual_seed(0)
    example = (torch.randn(1, 4, 8),)
    methods = {name: Call(example, function=name) for name in ("forward", "reset")}
    return capture(Memory().eval(), methods=methods, name="memory")


@pytest.fixture
def own_copy(tmp_path: Path) -> Callable[[Artifact], Artifact]:
    """A copy of an artifact that a test may damage."""

    def made(artifact: Artifact) -> Artifact:
        return Artifact(Path(shutil.copytree(artifact.folder, tmp_path / "copy")), artifact.manifest)

    return made
