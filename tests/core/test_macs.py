"""Multiply-accumulates against counts by hand, by kind of operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from hycompile.capture import capture
from hycompile.macs import KINDS, macs
from hycompile.recurrence.operators import causal_conv


class Calls(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _mixed(x: Tensor, taps: Tensor) -> Tensor:
    return causal_conv(x, taps, None, x.new_zeros(2, 6, 3))[0]


def _counted(model: nn.Module, *shapes: tuple[int, ...]) -> dict[str, int]:
    program = capture(model.eval(), tuple(torch.randn(shape) for shape in shapes))
    return macs(program.methods["forward"].graph)


CASES = {
    "linear": (nn.Linear(8, 6), [(2, 5, 8)], "linear", 2 * 5 * 8 * 6),
    "addmm": (Calls(lambda b, x, w: torch.addmm(b, x, w)), [(6,), (5, 8), (8, 6)], "linear", 5 * 8 * 6),
    "matmul": (Calls(torch.matmul), [(2, 3, 5, 4), (4, 7)], "matmul", 2 * 3 * 5 * 4 * 7),
    "bmm": (Calls(torch.bmm), [(3, 5, 4), (3, 4, 7)], "matmul", 3 * 5 * 4 * 7),
    "baddbmm": (Calls(torch.baddbmm), [(3, 5, 7), (3, 5, 4), (3, 4, 7)], "matmul", 3 * 5 * 4 * 7),
    "einsum": (Calls(lambda q, k: torch.einsum("bqd,bkd->bqk", q, k)), [(2, 5, 4), (2, 7, 4)], "matmul", 2 * 5 * 7 * 4),
    "convolution": (nn.Conv2d(4, 6, 3, stride=2, groups=2), [(2, 4, 7, 7)], "convolution", 2 * 9 * 6 * 2 * 9),
    "padding by name": (nn.Conv1d(4, 6, 3, padding="same"), [(2, 4, 7)], "convolution", 2 * 7 * 6 * 4 * 3),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2), [(2, 4, 5, 5)], "convolution", 2 * 25 * 4 * 6 * 4),
    "causal conv": (Calls(_mixed), [(2, 5, 6), (6, 4)], "convolution", 2 * 5 * 6 * 4),
    "attention": (
        Calls(F.scaled_dot_product_attention), [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 8)],
        "attention", 2 * 3 * 5 * 7 * (4 + 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_count_by_hand(case: str) -> None:
    model, shapes, kind, expected = CASES[case]
    assert _counted(model, *shapes) == dict.fromkeys(KINDS, 0) | {kind: expected}


def test_dynamic_sizes_count_as_in_the_example() -> None:
    program = capture(nn.Linear(8, 6).eval(), (torch.randn(5, 8),), dynamic_shapes=({0: Dim("n", min=2, max=64)},))
    assert macs(program.methods["forward"].graph)["linear"] == 5 * 8 * 6


def test_weights_on_meta_are_enough() -> None:
    with torch.device("meta"):
        program = capture(nn.Linear(8, 6).eval(), (torch.randn(5, 8),))
    assert macs(program.methods["forward"].graph)["linear"] == 5 * 8 * 6
