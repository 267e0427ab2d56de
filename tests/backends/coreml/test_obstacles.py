"""What is refused before the build, with the line of model source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.backends.coreml import Coreml
from hycompile.errors import Unsupported


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x) + torch.special.bessel_j0(2 * x)


class Bitwise(nn.Module):
    """``&`` has no converter of its own, its decomposition has."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x > 0) & (x < 1), x, -x)


def test_operator_without_a_converter_is_named_with_its_source(coreml_target: Callable[..., Any]) -> None:
    program = hy.capture(Unknown().eval(), (torch.randn(3),))
    (obstacle,) = Coreml().obstacles(program, coreml_target())
    assert obstacle.operator == "aten.special_bessel_j0"
    assert (obstacle.count, obstacle.fatal, obstacle.reason) == (2, True, "coremltools has no converter for it")
    assert obstacle.where.startswith("test_obstacles.py:")


def test_converter_refusal_is_one_line(lower_coreml: Callable[..., Any]) -> None:
    program = hy.capture(Unknown().eval(), (torch.randn(3),))
    with pytest.raises(
        Unsupported, match=r"^coremltools: cannot convert \(NotImplementedError: Unsupported fx node special_bessel_j0"
    ):
        lower_coreml(program)


def test_missing_converters_are_decomposed(lower_coreml: Callable[..., Any], coreml_target: Callable[..., Any]) -> None:
    x = torch.tensor([-1.0, 0.5, 2.0])
    program = hy.capture(Bitwise().eval(), (x,))
    assert not Coreml().obstacles(program, coreml_target())
    assert torch.equal(Coreml().open(lower_coreml(program)).run((x,))[0], torch.tensor([1.0, 0.5, -2.0]))


def test_double_precision_is_refused(lower_coreml: Callable[..., Any]) -> None:
    program = hy.capture(nn.ReLU().eval(), (torch.randn(3, dtype=torch.float64),))
    with pytest.raises(Unsupported, match=r"Core ML has no torch.float64 \(and 1 more\); program.to\(torch.float32\)"):
        lower_coreml(program)


def test_half_interface_needs_ios16(lower_coreml: Callable[..., Any]) -> None:
    program = hy.capture(nn.ReLU().eval(), (torch.randn(3),)).to(torch.float16)
    with pytest.raises(Unsupported, match="16-bit inputs and outputs need iOS16, the target is iOS15"):
        lower_coreml(program, precision="fp16", deployment_target="iOS15")


def test_size_that_is_an_expression_is_refused(lower_coreml: Callable[..., Any]) -> None:
    even = {1: 2 * torch.export.Dim("half", min=1, max=8)}
    program = hy.capture(nn.ReLU().eval(), (torch.randn(3, 4),), dynamic_shapes=(even,))
    with pytest.raises(
        Unsupported, match=r"input input.*: Core ML sizes are fixed or a range, not an expression \(2\*"
    ):
        lower_coreml(program)


def test_backend_says_what_it_is(coreml_target: Callable[..., Any]) -> None:
    backend = Coreml()
    assert (backend.name, backend.precisions, backend.measurable) == ("coreml", ("fp32", "fp16", "int8"), False)
    assert backend.missing(coreml_target()) is None
    assert backend.cannot_run(coreml_target()) is None
