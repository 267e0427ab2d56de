"""Mixed precision: which nodes stay in float32 and why, where the casts are, and what keeps its type."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.float16 import to_float16, to_precision
from hycompile.parity import compare, execute, relative_error
from hycompile.program import Program
from hycompile.schema import operator_name
from hycompile.script import draws
from tests.overflowing import overflowing
from tests.support import count

CAST = "aten._to_copy"


def error(half: Program, program: Program) -> float:
    """Over outputs and final state of ``forward`` on every draw of its inputs, in torch's own kernels."""
    method = program.methods["forward"]
    return max(
        compare(execute(half.methods["forward"], [x.half() for x in inputs]), execute(method, inputs))[0]
        for inputs in draws(method)
    )


def wide_kinds(program: Program) -> list[str]:
    wide = to_float16(program).wide["forward"]
    return [operator_name(node) for node in program.methods["forward"].graph.graph.nodes if node.name in wide]


def test_linear_attention_is_right_where_float16_alone_is_infinite() -> None:
    program = overflowing()
    assert error(program.to(torch.float16), program) == float("inf")
    half = to_float16(program)
    assert error(half.program, program) < 3e-3
    kinds = wide_kinds(program)
    assert kinds.count("aten.matmul") == 2
    assert "aten.div.Tensor" in kinds
    assert kinds.count("aten.conv2d") == 1  # what the ratio is computed from, not what is computed from it


def test_only_what_float16_cannot_hold_is_widened() -> None:
    """Nothing is cast in a network whose values all fit."""
    program = hy.capture(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8)).eval(), (torch.randn(4, 8),))
    half = to_float16(program)
    assert half.wide == {"forward": ()}
    assert half.kept == {}
    assert half.program.digest == program.to(torch.float16).digest


def test_fp32_is_the_program_itself() -> None:
    program = overflowing()
    assert to_precision(program, "fp32").program is program
    assert to_precision(program, "fp16").wide["forward"]


class LargeWeight(nn.Module):
    """A weight float16 has no number for, and one that fits."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Parameter(torch.tensor([3e5, 1.0])), nn.Parameter(torch.tensor([0.3, 0.1]))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.small) * self.large


def test_a_large_weight_keeps_its_value() -> None:
    program = hy.capture(LargeWeight().eval(), (1e-3 * torch.rand(4, 2),))
    half = to_float16(program)
    assert len(half.wide["forward"]) == 1
    assert {name: weight.dtype for name, weight in half.program.tensors().items()} == {
        "small": torch.float16,
        "large_unrounded": torch.float32,
    }
    assert error(program.to(torch.float16), program) > 0.1
    assert error(half.program, program) < 2e-3


class Inside(nn.Module):
    """Results that fit, of sums that do not."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.mean((2, 3)), nn.functional.layer_norm(x, [64]), torch.linalg.vector_norm(x, dim=-1), x.amax(1)


@pytest.mark.parametrize(
    ("scale", "expected"), [(0.1, []), (200.0, ["aten.mean.dim", "aten.layer_norm", "aten.linalg_vector_norm"])]
)
def test_sums_inside_an_operator_count(scale: float, expected: list[str]) -> None:
    program = hy.capture(Inside().eval(), (scale * (0.5 + torch.rand(1, 2, 64, 64)),))
    assert wide_kinds(program) == expected
    assert error(to_float16(program).program, program) < 3e-3


class Lost(nn.Module):
    """0 / (0 + 1e-12) is 0 in float32 and NaN where the number is lost."""

    def forward(self, x: Tensor) -> Tensor:
        zero = torch.relu(-x.abs())
        return zero / (zero.sum(-1, keepdim=True) + 1e-12).expand_as(zero) + x


def test_a_number_that_rounds_to_zero_counts() -> None:
    program = hy.capture(Lost().eval(), (torch.randn(4, 8),))
    assert wide_kinds(program) == ["aten.add.Tensor", "aten.expand", "aten.div.Tensor"]
    assert error(program.to(torch.float16), program) == float("inf")
    assert error(to_float16(program).program, program) < 2e-3


class Branches(nn.Module):
    """One wide value, taken by two narrow users through one operator; one input, taken wide twice."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        back = (x * 3e4 + x) * 1e-4
        return torch.relu(back), torch.tanh(back), -x


def test_every_cast_is_made_once() -> None:
    program = hy.capture(Branches().eval(), (1 + torch.rand(8),))
    half = to_float16(program)
    assert wide_kinds(program) == ["aten.mul.Tensor", "aten.add.Tensor", "aten.mul.Tensor"]
    assert count(half.program, CAST) == 2
    assert error(half.program, program) < 2e-3
    half.program.methods["forward"].export()


class Parts(nn.Module):
    """Several results of one operator, one of them large."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first, second = (x * torch.tensor([1.0, 1.0, 5e4, 5e4])).split(2, -1)
        return first + 1, second / 5e4


def test_parts_of_a_wide_value_are_wide() -> None:
    program = hy.capture(Parts().eval(), (1 + torch.rand(3, 4),))
    assert wide_kinds(program).count("getitem") == 2
    assert error(to_float16(program).program, program) < 2e-3


class Sums(nn.Module):
    """State that a wide value is written to, and that a wide value is computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.total = nn.Buffer(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        large = (x + self.total) * 3e4
        self.total.copy_(large.mean(0) * 1e-5)
        return large.sum(-1) / large.sum()


def test_state_inputs_and_outputs_are_float16() -> None:
    program = hy.capture(Sums().eval(), (1 + torch.rand(3, 4),))
    half = to_float16(program).program
    spec = half.methods["forward"].spec()
    assert [value.dtype for value in (*spec.inputs, *spec.outputs)] == ["float16", "float16"]
    result = execute(half.methods["forward"])
    assert {name: value.dtype for name, value in result.state.items()} == {"total": torch.float16}
    assert [value.dtype for value in result.outputs] == [torch.float16]
    assert error(half, program) < 2e-3
    assert half.methods["forward"].mutated() == ("total",)
    half.methods["forward"].export()


class Grows(nn.Module):
    """Fits on the first step, and on no later one."""

    def __init__(self) -> None:
        super().__init__()
        self.total = nn.Buffer(torch.full((4,), 10.0))

    def forward(self, x: Tensor) -> Tensor:
        squares = self.total * self.total
        self.total.copy_(self.total * 20 + x)
        return squares / squares.sum()


def test_values_of_later_steps_count() -> None:
    assert "aten.div.Tensor" in wide_kinds(hy.capture(Grows().eval(), (torch.ones(4),)))


def test_dynamic_shapes_are_kept() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 1e5).sum(-1) / 1e5

    batch = torch.export.Dim("batch", min=1, max=8)
    program = hy.capture(Scaled().eval(), (1 + torch.rand(4, 4),), dynamic_shapes=({0: batch},))
    half = to_float16(program).program
    assert isinstance(half.methods["forward"].spec().inputs[0].shape[0], str)
    module = half.methods["forward"].export().module()
    for size in (1, 7):
        x = 1 + torch.rand(size, 4)
        assert relative_error([module(x.half())], [x.sum(-1)]) < 2e-3


def test_a_float16_program_is_widened_too() -> None:
    program = overflowing().to(torch.float16)
    assert error(to_float16(program).program, overflowing()) < 3e-3
