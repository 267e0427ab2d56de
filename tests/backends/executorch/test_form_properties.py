"""Convolutions as matrix products, over every geometry: the same function, whichever rules take or refuse it."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hycompile.backends.executorch.forms import ROWS
from hycompile.capture import capture
from hycompile.parity import Proof
from hycompile.rewrite import apply

KERNELS, PADDINGS = st.integers(1, 5), st.integers(0, 3)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, tuple[int, int]]:
    """A convolution wide enough for a form, and the size of an image it takes."""
    groups, stride = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    inputs, outputs = draw(st.sampled_from([16, 32])), draw(st.sampled_from([32, 48]))
    kernel, padding = (draw(KERNELS), draw(KERNELS)), (draw(PADDINGS), draw(PADDINGS))
    size = tuple(draw(st.integers(max(extent - 2 * pad, 1), 9)) for extent, pad in zip(kernel, padding, strict=True))
    torch.manual_seed(draw(st.integers(0, 9)))
    bias = draw(st.booleans())
    conv = nn.Conv2d(groups * inputs, groups * outputs, kernel, stride, padding, groups=groups, bias=bias)
    return conv.eval().requires_grad_(False), (size[0], size[1])


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(convolutions(), st.integers(1, 2))
def test_rows_compute_the_convolution(drawn: tuple[nn.Conv2d, tuple[int, int]], batch: int) -> None:
    conv, size = drawn
    program = capture(conv, (torch.randn(batch, conv.in_channels, *size),)).to(torch.float64)
    proof = Proof(program)
    hit: set[str] = set()
    for rule in ROWS:
        if apply(rule, program).hits:
            assert proof.check(program, rule.name, budget=1e-12) <= 1e-12
            hit.add(rule.name)
    assert _expected(conv, size[0]) <= hit


def _expected(conv: nn.Conv2d, rows: int) -> set[str]:
    """The rule that must have taken a convolution, so that refusing everything is no way to pass."""
    (height, width), inputs = conv.kernel_size, conv.in_channels // conv.groups
    if conv.stride == (2, 2):
        wide = conv.groups == 1 and inputs >= 24 and conv.out_channels >= 48
        return {"split_strided_rows"} if wide and height > 1 and width > 1 else set()
    if height * width == 1:
        return set()
    if conv.groups > 1:
        return {"split_groups"} if inputs >= 32 else set()
    # Else a row of the kernel lies outside the image wherever it is.
    return {"split_kernel_rows"} if height <= rows + int(conv.padding[0]) else set()
