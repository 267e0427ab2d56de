"""Mutable state: several steps beside the eager model, executed and re-exported; the Program's own stays put."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hycompile.capture import capture
from hycompile.parity import Result, execute, relative_error
from hycompile.program import Program

STEPS = 3


class Counter(nn.Module):
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before = self.total.clone()
        self.total.add_(x)
        return before.view(2, 2), self.total.view(2, 2)[1]


class Returned(nn.Module):
    """Returns the very buffer it has just written."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total


class ShiftRegister(nn.Module):
    """Each buffer takes what the one before it held: order of the writes matters."""

    first: Tensor
    second: Tensor
    third: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "second", "third"):
            self.register_buffer(name, torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        self.third.copy_(self.second)
        self.second.copy_(self.first)
        self.first.copy_(x)
        return self.first + 2 * self.second + 3 * self.third


class Swap(nn.Module):
    left: Tensor
    right: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("left", torch.zeros(4))
        self.register_buffer("right", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        left = self.left.clone()
        self.left.copy_(self.right)
        self.right.copy_(left + x)
        return self.left * x


class Transposed(nn.Module):
    """What is written is a view of the buffer itself."""

    square: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("square", torch.randn(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        self.square.copy_(self.square.t().clone())
        return self.square.flatten() + x


class Window(nn.Module):
    """A convolution's cache: shifted by one, the newest column written in place."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.zeros(1, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.window.copy_(torch.roll(self.window, -1, 2))
        self.window[:, :, -1] = x
        return self.window.sum(2)


MODELS = [Counter, Returned, ShiftRegister, Swap, Transposed, Window]


@pytest.mark.parametrize("kind", MODELS)
def test_steps(kind: type[nn.Module]) -> None:
    model = kind().eval()
    eager, program = copy.deepcopy(model), capture(model, (torch.randn(4),))
    method = program.methods["forward"]
    exported = method.export().module()
    captured_state = {name: value.clone() for name, value in program.tensors().items()}
    state: dict[str, Tensor] = {}
    for _ in range(STEPS):
        x = torch.randn(4)
        expected = _flat(eager(x))
        result = execute(method, (x,), state=state)
        state = result.state
        assert relative_error(result.outputs, expected) <= 1e-6
        assert relative_error(_flat(exported(x)), expected) <= 1e-6
        for name, value in eager.named_buffers():
            assert relative_error([state[name], exported.get_buffer(name)], [value, value]) <= 1e-6
    for name, value in program.tensors().items():
        assert torch.equal(value, captured_state[name])


@pytest.mark.parametrize("kind", MODELS)
def test_file(kind: type[nn.Module], tmp_path: Path) -> None:
    program = capture(kind().eval(), (torch.randn(4),))
    program.save(tmp_path / "p.hyc")
    loaded = capture(tmp_path / "p.hyc")
    assert loaded.digest == program.digest
    assert loaded.methods["forward"].mutated() == program.methods["forward"].mutated() != ()
    assert _error(_run(loaded), _run(program)) == 0.0


def test_text_tells_state_from_constants() -> None:
    text = capture(Counter().eval(), (torch.randn(4),)).text()
    assert "state @total : f32[4]" in text
    assert "write @total <- %add" in text


def test_equal_state_buffers_stay_apart() -> None:
    """Two buffers of zeros are two buffers, unlike two equal constants."""

    class TwoZeros(nn.Module):
        a: Tensor
        b: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a", torch.zeros(2))
            self.register_buffer("b", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.a.add_(x)
            self.b.sub_(x)
            return self.a * self.b

    tensors = capture(TwoZeros().eval(), (torch.ones(2),)).tensors()
    assert tensors["a"].data_ptr() != tensors["b"].data_ptr()


def _run(program: Program) -> Result:
    return execute(program.methods["forward"])


def _error(a: Result, b: Result) -> float:
    assert a.tensors().keys() == b.tensors().keys()
    return relative_error(list(a.tensors().values()), list(b.tensors().values()))


def _flat(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
