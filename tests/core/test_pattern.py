"""Patterns: captures, order of arguments, alternatives, defaults, and names that no operator has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hycompile.builder import Value, call
from hycompile.errors import PassError
from hycompile.parity import Proof
from hycompile.pattern import Any, Arg, Call, Const, OneOf
from hycompile.rewrite import apply, rule
from tests.support import captured, count


def test_commutative() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x.relu() + y) * (y + x.relu())

    @rule(
        Call("aten.add.Tensor", commutative=True, self=Call("aten.relu", self=Any("x")), other=Any("y")), source="test"
    )
    def commutes(x: Value, y: Value) -> Value:
        """relu(x) + y = clamp_min(x, 0) + y."""
        return call("aten.add.Tensor", call("aten.clamp_min", x, 0), y)

    program = captured(Sums(), torch.randn(3), torch.randn(3))
    proof = Proof(program)
    assert apply(commutes, program).hits == 2
    assert count(program, "aten.relu") == 0
    assert proof.check(program, "test") == 0.0


def test_one_of_and_names_captured_twice() -> None:
    pattern = Call(
        "aten.mul.Tensor",
        self=OneOf(Call("aten.relu", self=Any("x"), name="relu"), Call("aten.abs", self=Any("x"), name="abs")),
        other=Any("x"),
    )

    class Products(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x.relu() * x + x.abs() * x + x.relu() * y

    module = captured(Products(), torch.randn(3), torch.randn(3)).methods["forward"].graph
    products = [node for node in module.graph.nodes if node.name.startswith("mul")]
    first, second, third = (pattern.match(module, node, {}) for node in products)
    assert pattern.names() == {"x", "relu", "abs"}
    assert first is not None
    assert second is not None
    assert (first["abs"], second["relu"]) == (None, None)
    assert (first["relu"].node.name, second["abs"].node.name) == ("relu", "abs_1")
    assert third is None, "x is one tensor"


def test_constants_captured_twice_must_be_equal() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.full((2,), 2.0))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.one + self.one) + (x * self.one + self.two)

    module = captured(Two(), torch.randn(2)).methods["forward"].graph
    pattern = Call("aten.add.Tensor", self=Call("aten.mul.Tensor", self=Any(), other=Const("c")), other=Const("c"))
    sums = [node for node in module.graph.nodes if node.name.startswith("add")]
    assert [pattern.match(module, node, {}) is not None for node in sums] == [True, False, False]


def test_plain_arguments_defaults_and_once() -> None:
    class Convs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + y.relu()

    module = captured(Convs(), torch.randn(1, 1, 2, 2)).methods["forward"].graph
    (conv,) = (node for node in module.graph.nodes if node.name == "conv2d")
    geometry = Call("aten.conv2d", stride=[1, 1], groups=1, dilation=Arg("dilation"), bias=Const("bias", optional=True))
    found = geometry.match(module, conv, {})
    assert found is not None
    assert found["dilation"] == [1, 1]
    assert found["bias"].shape == (1,)
    assert Call("aten.conv2d", groups=2).match(module, conv, {}) is None
    assert Call("aten.conv2d", once=True).match(module, conv, {}) is None
    assert Call("aten.conv2d", weight=Any("w")).match(module, conv, {}) is not None
    assert Call("aten.conv2d", weight=Arg("w")).match(module, conv, {}) is None


def test_pattern_that_could_never_match() -> None:
    with pytest.raises(PassError) as caught:
        Call("aten.relu", input=Any("x"))
    assert str(caught.value) == "pattern of aten.relu: no argument ['input']; it takes ['self']"
    with pytest.raises(PassError, match=r"operator 'aten\.rellu': no such operator"):
        Call("aten.rellu")
    with pytest.raises(PassError, match="operator 'relu': no such operator"):
        Call("relu")
