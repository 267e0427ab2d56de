"""State: initial values, writes, several methods over it, and what would freeze it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.capture import Call, capture
from hycompile.errors import Unsupported
from hycompile.parity import relative_error
from hycompile.program import Program
from hycompile.prove import prove
from hycompile.target import ExecutorchOptions

Build = Callable[..., Artifact]


class Echo(nn.Module):
    """Adds what it has seen so far; ``start`` fills its state."""

    seen: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("seen", torch.full((1, 8), start))
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x) + self.seen
        self.seen.copy_(0.5 * y)
        return y


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x)

    def twice(self, x: Tensor) -> Tensor:
        return self.wide(self.wide(x))


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_buffers() if name in ("matrix", "vector", "count")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_steps_and_final_state_match_eager(
    memory: nn.Module, memory_program: Program, build: Build, precision: str
) -> None:
    tolerance = {"fp32": 1e-5, "fp16": 2e-2}[precision]
    session = Executorch().open(build(memory_program, precision=precision))
    start = session.state()
    assert start is not None
    assert relative_error([start[name] for name in _buffers(memory)], [*_buffers(memory).values()]) < tolerance
    model = deepcopy(memory)
    for step in range(4):
        x = torch.randn(2, 4, generator=torch.Generator().manual_seed(step))
        assert relative_error(session.run([x]), [model(x)]) < tolerance
    state = session.state()
    assert state is not None
    assert state.keys() == _buffers(model).keys()
    for name, value in _buffers(model).items():
        assert relative_error([state[name]], [value]) < tolerance, name
    assert torch.equal(state["count"], torch.tensor([7]))


def test_each_session_starts_at_the_captured_state(memory_program: Program, build: Build) -> None:
    artifact = build(memory_program)
    x = torch.randn(2, 4)
    used = Executorch().open(artifact)
    first = used.run([x])
    second = used.run([x])
    fresh = Executorch().open(artifact)
    assert relative_error(fresh.run([x]), first) == 0.0
    assert relative_error(second, first) > 1e-2
    assert relative_error(used.run([x]), second) > 1e-3


def test_methods_share_state(memory: nn.Module, two_methods: Program, build: Build) -> None:
    artifact = build(two_methods)
    assert prove(Executorch().open(artifact), two_methods) < 1e-5
    session = Executorch().open(artifact)
    model = deepcopy(memory)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(2, 4, generator=generator), torch.randn(3, 4, generator=generator)
        assert relative_error(session.run([y], "read"), [model.read(y)]) < 1e-5  # type: ignore[operator]
        assert relative_error(session.run([x]), [model(x)]) < 1e-5
    assert relative_error(session.run([y], "read"), [model.read(y)]) < 1e-5  # type: ignore[operator]


def test_methods_share_weights(build: Build) -> None:
    model = Two().eval().requires_grad_(False)
    x = torch.randn(1, 256)
    one = build(capture(model, (x,)))
    both = build(capture(model, methods={"forward": Call((x,)), "twice": Call((x,), function="twice")}))
    assert one.size_bytes > 256 * 256 * 4
    assert both.size_bytes < 1.1 * one.size_bytes
    session = Executorch().open(both)
    assert relative_error(session.run([x], "twice"), [model.twice(x)]) < 1e-5
    assert relative_error(session.run([x]), [model(x)]) < 1e-5


def test_stock_partitioner_would_freeze_state(
    memory_program: Program, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    """The guard behind the guard: were the partitioner's own care to fail, lowering still refuses."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    from hycompile.backends.executorch import partitioners

    monkeypatch.setattr(partitioners, "SafeXnnpack", lambda state: XnnpackPartitioner())
    with pytest.raises(Unsupported, match="state 'matrix' of method 'forward': a delegate would freeze"):
        build(memory_program)


@pytest.mark.parametrize(("start", "share"), [(0.0, 1.0), (0.5, 1.0)])
def test_coreml_keeps_state_that_starts_at_zero_only(build: Build, start: float, share: float) -> None:
    program = capture(Echo(start).eval(), (torch.randn(1, 8),))
    artifact = build(program, executorch=ExecutorchOptions(partitioners=("coreml",)))
    content = artifact.file("model").read_bytes()
    assert artifact.manifest.facts["delegated_share"] == share
    owned = b"coreml_update_state" in content
    assert owned == (start == 0.0)
