"""What the ONNX tests share: a toy hybrid, stateful modules, and targets that differ from the host in one thing."""

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
from hycompile.target import OnnxOptions, Precision, Target


class Hybrid(nn.Module):
    """Convolution with batch norm, then attention over the positions, then a pooled head: [N, 3, H, W] to [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 5)
        generator = torch.Generator().manual_seed(0)
        for statistic in (self.norm.running_mean, self.norm.bias.data):
            assert statistic is not None
            statistic.copy_(0.1 * torch.randn(16, generator=generator))
        for scale in (self.norm.running_var, self.norm.weight.data):
            assert scale is not None
            scale.copy_(0.5 + torch.rand(16, generator=generator))

    def forward(self, image: Tensor) -> Tensor:
        tokens = F.relu(self.norm(self.conv(image))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((tokens + attended).mean(1))


class Recurrent(nn.Module):
    """A decaying sum, a cache written at a counted position, and that count: all three are state."""

    decayed: Tensor
    cache: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.register_buffer("decayed", torch.zeros(1, 4))
        self.register_buffer("cache", torch.zeros(8, 4))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.mix(x)
        self.decayed.mul_(0.5).add_(y)
        self.cache.index_copy_(0, self.step.reshape(1), y)
        self.step.add_(1)
        return self.cache.softmax(0) @ self.mix.weight + self.decayed, self.decayed

    def peek(self, x: Tensor) -> Tensor:
        """Reads state and writes none."""
        return self.decayed * x

    def reset(self, x: Tensor) -> Tensor:
        """Writes one buffer only."""
        self.decayed.copy_(x)
        return x + 1


@pytest.fixture
def hybrid() -> Callable[..., Program]:
    """Captures the toy hybrid, on request with a dynamic batch of 1 to 16."""

    def made(dynamic: bool = False) -> Program:
        torch.manual_seed(0)
        shapes = ({0: torch.export.Dim("batch", min=1, max=16)},) if dynamic else None
        return capture(Hybrid().eval(), (torch.randn(2, 3, 16, 16),), dynamic_shapes=shapes)

    return made


@pytest.fixture
def recurrent() -> Callable[..., tuple[nn.Module, Program]]:
    """The stateful module beside its capture: ``forward`` and whatever other methods are named."""

    def made(*others: str) -> tuple[nn.Module, Program]:
        torch.manual_seed(0)
        module = Recurrent().eval()
        example = (torch.randn(1, 4),)
        methods = {name: Call(example, function=name) for name in ("forward", *others)}
        return module, capture(module, methods=methods)

    return made


@pytest.fixture
def host() -> Target:
    return load_target("host")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("onnx"))


@pytest.fixture
def build(host: Target, shared_cache: Cache) -> Callable[..., Artifact]:
    """Lowers to the host with the ``onnx`` backend, at a precision and opset; equal requests are built once."""

    def made(program: Program, precision: Precision = "fp32", opset: int = 18) -> Artifact:
        target = host.model_copy(update={"precision": precision, "onnx": OnnxOptions(opset=opset)})
        return lower(program, target, "onnx", cache=shared_cache)

    return made


@pytest.fixture
def own_copy(tmp_path: Path) -> Callable[[Artifact], Artifact]:
    """A copy of an artifact that a test may damage."""

    def made(artifact: Artifact) -> Artifact:
        return Artifact(Path(shutil.copytree(artifact.folder, tmp_path / "copy")), artifact.manifest)

    return made
