"""Emitted MLIR parses back, verifies, and computes what the program computes; what cannot be lowered is named."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.attributes import tensor_at
from hycompile.capture import capture
from hycompile.emit import Dialect, emit, parses
from hycompile.errors import Unsupported
from hycompile.parity import execute, relative_error
from hycompile.program import Program
from tests.mlir_runner import run_linalg
from tests.support import captured


class Hybrid(nn.Module):
    """Convolution, batch norm, attention with a constant bias that is not persistent."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 5)
        self.bias = nn.Buffer(torch.randn(1, 2, 64, 64), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        tokens = F.gelu(self.norm(self.conv(image))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        return self.head((tokens + mixed.transpose(1, 2).flatten(2)).mean(1))


class Memory(nn.Module):
    """A leaky sum in a buffer, and a counter of another type."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.cache = nn.Buffer(torch.ones(1, 4))
        self.steps = nn.Buffer(torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x) + self.cache
        self.cache.mul_(0.9).add_(y)
        self.steps.add_(1)
        return y


class Factor(nn.Module):
    """Something torch-mlir has no lowering for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.qr(x)[0]


class Bessel(nn.Module):
    """Something even the torch dialect does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.fixture(autouse=True)
def _seed() -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    torch.manual_seed(0)


@pytest.fixture
def hybrid() -> Program:
    return captured(Hybrid(), torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("to", get_args(Dialect))
def test_emitted_text_parses_back(hybrid: Program, to: Dialect) -> None:
    text = emit(hybrid, to)
    assert text.startswith(f"// Hybrid, program {hybrid.digest}\n// forward(image) -> (")
    assert parses(text, to)
    assert {
        "torch": "torch.aten.",
        "linalg": "linalg.generic",
        "tosa": "tosa.conv2d",
        "stablehlo": "stablehlo.convolution",
    }[to] in text
    assert not parses(text.replace("return", "retrun"), to)


def test_the_weights_are_in_the_text(hybrid: Program) -> None:
    """Each of the 48 x 16 float32 weights of one layer takes eight hexadecimal characters of its blob."""
    weight = tensor_at(hybrid.methods["forward"].graph, "qkv.weight")
    assert weight.numpy().tobytes().hex().upper() in emit(hybrid, "linalg").upper()


def test_emitted_linalg_computes_the_same(hybrid: Program) -> None:
    method = hybrid.methods["forward"]
    expected = execute(method).outputs
    found = run_linalg(emit(hybrid, "linalg"), "forward", method.flat_inputs(), expected)
    assert relative_error(found, expected) < 1e-5


def test_state_is_an_argument_and_a_result() -> None:
    program = capture(Memory().eval(), (torch.randn(1, 4),))
    method = program.methods["forward"]
    text = emit(program, "linalg")
    assert "// forward(x, state cache, state steps) -> (add, state cache, state steps)\n" in text
    state = {name: tensor_at(method.graph, name).clone() for name in method.mutated()}
    for _ in range(3):
        x = torch.randn(1, 4)
        expected = execute(method, (x,), state=state)
        after = [expected.state[name] for name in state]
        found = run_linalg(text, "forward", [x, *state.values()], [*expected.outputs, *after])
        assert relative_error(found, [*expected.outputs, *after]) < 1e-6
        state = dict(zip(state, found[1:], strict=True))
    assert state["steps"].item() == 3


@pytest.mark.parametrize("to", ["linalg", "tosa", "stablehlo"])
def test_an_operator_without_lowering_is_named(to: Literal["linalg", "tosa", "stablehlo"]) -> None:
    program = capture(Factor().eval(), (torch.randn(4, 4),))
    with pytest.raises(Unsupported, match=rf"aten\.linalg_qr at test_emit\.py:\d+: torch-mlir cannot lower it to {to}"):
        emit(program, to)
    assert parses(emit(program, "torch"), "torch")


def test_an_operator_unknown_to_torch_mlir_is_named() -> None:
    program = capture(Bessel().eval(), (torch.randn(4),))
    with pytest.raises(
        Unsupported, match=r"special_bessel_j0 at test_emit\.py:\d+: torch-mlir cannot lower it to torch"
    ):
        emit(program, "torch")


def test_an_unknown_method_is_refused(hybrid: Program) -> None:
    with pytest.raises(Unsupported, match="method 'decode': the program has no such method; it has forward"):
        emit(hybrid, "torch", method="decode")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch", "linalg"])
def test_a_real_hybrid(to: Literal["torch", "linalg"]) -> None:
    """About 100 MB of text for 12 million parameters."""
    from hycompile import load_program

    program = load_program("efficientformer_l1")
    text = emit(program, to)
    assert len(text) > 2 * program.weight_bytes * 0.95
    assert parses(text, to)
