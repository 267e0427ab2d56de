"""Toy hybrids and a short way from a module to an opened ``.pte``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hycompile.artifact import Artifact, Manifest, folder_digests
from hycompile.backends.executorch import Executorch
from hycompile.capture import Call, capture
from hycompile.program import Program
from hycompile.target import OperatingSystem, Source, Target

Build = Callable[..., Artifact]


class TinyHybrid(nn.Module):
    """Convolution, batch norm, layer norm and attention over its map; a linear head. 16 channels, 2 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.pre = nn.LayerNorm(16)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        tokens = functional.silu(self.norm(self.stem(image))).flatten(2).transpose(1, 2)
        batch, length, _ = tokens.shape
        q, k, v = self.qkv(self.pre(tokens)).reshape(batch, length, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, 16)
        return self.head((tokens + mixed).mean(1))


class FallsOut(nn.Module):
    """What no delegate takes: attention under a mask that run time computes, a running sum, a mean over two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        mask = x.sum(-1, keepdim=True) > 0
        mixed = functional.scaled_dot_product_attention(self.project(x), x, x, attn_mask=mask)
        return mixed.cumsum(1).mean((0, 1))


class Memory(nn.Module):
    """State of every kind: a matrix used as a weight, a vector, a counter; all start at values other than zero."""

    matrix: Tensor
    vector: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.register_buffer("matrix", 0.5 * torch.eye(4) + 0.1)
        self.register_buffer("vector", torch.arange(4.0))
        self.register_buffer("count", torch.tensor([3]))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.linear(self.project(x), self.matrix) + self.vector
        self.matrix.mul_(0.5).add_(0.1 * y.softmax(-1).transpose(0, 1) @ y)
        self.vector.copy_(y.mean(0))
        self.count.add_(1)
        return y * self.count

    def read(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.matrix) + self.vector


def make_target(**options: Any) -> Target:
    return Target(
        name="host",
        description="this machine",
        runtimes=("executorch",),
        triple="x86_64-unknown-linux-gnu",
        os=OperatingSystem(name="linux", floor="5"),
        sources=(Source(fact="none", reference="a test"),),
        **options,
    )


@pytest.fixture(scope="session")
def hybrid() -> TinyHybrid:
    torch.manual_seed(0)
    model = TinyHybrid().eval()
    model.norm.running_mean = 0.1 * torch.randn(16)
    model.norm.running_var = 0.5 + torch.rand(16)
    return model.requires_grad_(False)


@pytest.fixture(scope="session")
def hybrid_program(hybrid: TinyHybrid) -> Program:
    return capture(hybrid, (torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)),))


@pytest.fixture(scope="session")
def falls_out_program() -> Program:
    torch.manual_seed(0)
    return capture(FallsOut().eval().requires_grad_(False), (torch.randn(2, 5, 8),))


@pytest.fixture(scope="session")
def falls_out_artifact(falls_out_program: Program, build: Build) -> Artifact:
    return build(falls_out_program)


@pytest.fixture
def memory() -> Memory:
    torch.manual_seed(0)
    return Memory().eval().requires_grad_(False)


@pytest.fixture
def memory_program(memory: Memory) -> Program:
    return capture(memory, (torch.randn(2, 4),))


@pytest.fixture
def two_methods(memory: Memory) -> Program:
    return capture(
        memory, methods={"forward": Call((torch.randn(2, 4),)), "read": Call((torch.randn(3, 4),), function="read")}
    )


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(program, **target options)`` lowers and gives the artifact with its manifest."""

    def run(program: Program, **options: Any) -> Artifact:
        folder: Path = tmp_path_factory.mktemp("artifact")
        target = make_target(**options)
        lowered = Executorch().lower(program, target, folder)
        manifest = Manifest(
            backend="executorch",
            target=target,
            program=program.name,
            program_digest=program.digest,
            pipeline="",
            methods={name: method.spec() for name, method in program.methods.items()},
            files=lowered.files,
            digests=folder_digests(folder),
            facts=lowered.facts,
            tools=lowered.tools,
            seconds=0.0,
        )
        return Artifact(folder, manifest)

    return run


@pytest.fixture(scope="session")
def hybrid_artifact(hybrid_program: Program, build: Build) -> Artifact:
    return build(hybrid_program)


@pytest.fixture
def target() -> Callable[..., Target]:
    """``target(**options)`` makes a host target."""
    return make_target
