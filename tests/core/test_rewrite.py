"""The rule engine: what makes a rule, what it may build, how far it looks, and what it says when something is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hycompile.builder import Value, call, edit
from hycompile.errors import PassError
from hycompile.parity import Proof
from hycompile.pattern import Any, Call
from hycompile.rewrite import apply, require, rule
from tests.support import captured, count

RELU = Call("aten.relu", self=Any("x"))


class Chain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().neg().abs().neg()


def test_rule_must_ask_for_what_is_captured() -> None:
    with pytest.raises(PassError) as caught:

        @rule(RELU, source="test")
        def wants_more(x: Value, weight: Tensor) -> Value:  # pyright: ignore[reportUnusedFunction]
            """x."""
            return x

    assert str(caught.value) == (
        "rule wants_more: asks for ['weight'], which its pattern does not capture; it captures ['x']"
    )


def test_rule_must_state_its_identity() -> None:
    with pytest.raises(PassError, match="rule silent: states no identity; write the formula as the first line"):

        @rule(RELU, source="test")
        def silent(x: Value) -> Value:  # pyright: ignore[reportUnusedFunction]
            return x


def test_rule_knows_its_name_identity_and_source() -> None:
    @rule(RELU, source="Somebody 2020")
    def named(x: Value) -> Value:
        """relu(x) = x.

        Given: nothing.
        """
        return x

    assert (named.name, named.identity, named.source) == ("named", "relu(x) = x.", "Somebody 2020")
    assert named.doc.endswith("Given: nothing.")


def test_body_that_raises() -> None:
    @rule(RELU, source="test")
    def broken(x: Value) -> Value:
        """relu(x) = ?"""
        call("aten.neg", x)
        raise ZeroDivisionError("one\ntwo")

    program = captured(Chain(), torch.ones(2))
    before = program.text()
    with pytest.raises(PassError) as caught:
        apply(broken, program)
    assert caught.value.seen.startswith("rule broken at relu (test_rewrite.py:")
    assert caught.value.reason == "its body failed (ZeroDivisionError: one two)"
    assert program.text() == before, "what the body had built is gone"


@pytest.mark.parametrize(
    ("dims", "dtype", "reason"),
    [
        ([0], torch.float32, "replaces torch.float32[2, 3] by torch.float32[3]"),
        ([], torch.float64, "replaces torch.float32[2, 3] by torch.float64[2, 3]"),
    ],
)
def test_replacement_of_another_shape_or_type(dims: list[int], dtype: torch.dtype, reason: str) -> None:
    @rule(RELU, source="test")
    def reshapes(x: Value) -> Value:
        """relu(x) = something else."""
        return call("aten.sum.dim_IntList", x, dims) if dims else call("aten.to.dtype", x, dtype)

    with pytest.raises(PassError) as caught:
        apply(reshapes, captured(Chain(), torch.ones(2, 3)))
    assert str(caught.value) == f"rule reshapes at relu: {reason}; a rewrite keeps shape and dtype"


def test_body_that_returns_nothing() -> None:
    @rule(RELU, source="test")
    def forgets(x: Value) -> Value:  # pyright: ignore[reportReturnType]
        """relu(x) = x."""

    with pytest.raises(PassError, match="rule forgets: returned NoneType; return the Value"):
        apply(forgets, captured(Chain(), torch.ones(2)))


def test_rule_that_feeds_itself_ends_with_an_error() -> None:
    @rule(RELU, source="test")
    def wraps(x: Value) -> Value:
        """relu(x) = relu(relu(x))."""
        return call("aten.relu", call("aten.relu", x))

    with pytest.raises(PassError, match=r"rule wraps: does not end: \d+ rewrites, and it matches again"):
        apply(wraps, captured(Chain(), torch.ones(2)))


def test_refusal_is_recorded_and_what_was_built_is_gone() -> None:
    @rule(RELU, source="test")
    def refuses(x: Value) -> Value:
        """relu(x) = x."""
        call("aten.mul.Tensor", x, torch.ones(3))
        require(x.shape[0] > 5, "{} has {} rows, more than {} are needed", x.node.name, x.shape[0], 5)
        return x

    program = captured(Chain(), torch.ones(2, 3))
    before = program.text()
    report = apply(refuses, program)
    (refusal,) = report.refusals
    assert (report.rule, report.hits) == ("refuses", 0)
    assert refusal.reason == "x has 2 rows, more than 5 are needed"
    assert refusal.node == "relu"
    assert refusal.where.startswith("test_rewrite.py:")
    assert program.text() == before
    assert not [name for name, _ in program.methods["forward"].graph.named_buffers()]


def test_rewrites_that_enable_each_other_are_all_found() -> None:
    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = x.neg().abs()
            return x.neg()

    deep = Call("aten.neg", self=Call("aten.abs", self=Call("aten.neg", self=Any("x"))))

    @rule(deep, source="test")
    def signs_under_abs(x: Value) -> Value:
        """-|-x| = -|x|."""
        return call("aten.neg", call("aten.abs", x))

    program = captured(Nested(), torch.randn(3))
    proof = Proof(program)
    assert deep.depth() == 3
    assert apply(signs_under_abs, program).hits == 4
    assert (count(program, "aten.neg"), count(program, "aten.abs")) == (1, 4)
    assert apply(signs_under_abs, program).hits == 0
    assert proof.check(program, "test") == 0.0


def test_refused_node_is_tried_again_after_a_rewrite() -> None:
    class Users(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.relu()
            return y.neg() + y.relu()

    @rule(RELU, source="test")
    def needs_one_user(x: Value) -> Value:
        """relu(x) = clamp_min(x, 0), where a single neg uses it or its input is a relu."""
        (relu,) = [user for user in x.node.users if user.target is torch.ops.aten.relu.default]
        require(x.node.op != "placeholder" or len(relu.users) == 1, "{} users", len(relu.users))
        return x if x.node.op != "placeholder" else call("aten.clamp_min", x, 0)

    program = captured(Users(), torch.randn(3))
    proof = Proof(program)
    report = apply(needs_one_user, program)
    assert report.hits == 1
    assert [refusal.reason for refusal in report.refusals] == ["2 users"]
    assert proof.check(program, "test") == 0.0


def test_building_outside_a_rule() -> None:
    with pytest.raises(PassError, match=r"call\('aten.relu'\): used outside a rewrite function; call it from"):
        call("aten.relu")


def test_edit_keeps_keyword_arguments_keywords() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.add(x, y, alpha=2).relu()

    @rule(Call("aten.relu", self=Call("aten.add.Tensor", name="sum", alpha=2), name="relu"), source="test")
    def doubles(sum: Value, relu: Value) -> Value:
        """relu(x + 2 y) = relu(2 y + x)."""
        with pytest.raises(PassError, match=r"no argument \['beta'\]; it takes \['self', 'other', 'alpha'\]"):
            edit(sum, beta=1)
        edit(sum, self=sum["self"], alpha=3)
        return call("aten.clamp_min", sum, 0)

    program = captured(Scaled(), torch.ones(2), torch.ones(2))
    assert apply(doubles, program).hits == 1
    (node,) = (n for n in program.methods["forward"].graph.graph.nodes if n.name == "add")
    assert (len(node.args), node.kwargs) == (2, {"alpha": 3})
    exported = program.methods["forward"].export()
    assert exported.module()(torch.ones(2), torch.ones(2)).tolist() == [4.0, 4.0]
