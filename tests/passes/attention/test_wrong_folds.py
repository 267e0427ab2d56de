"""The folds where they do not hold (rows of the rule catalogue): parity catches each, and the true rule refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hycompile.builder import Value, call, edit
from hycompile.errors import ParityError
from hycompile.passes.fuse_conv_attention import RECOVER
from hycompile.passes.fuse_conv_attention.fold_biases import drop_key_bias, move_value_bias
from hycompile.passes.fuse_conv_attention.fold_scale import fold_scale
from hycompile.pattern import Any, Call, Const
from hycompile.pipeline import Pipeline, RulePass
from hycompile.program import constant
from hycompile.rewrite import Rule, apply, require, rule
from hycompile.schema import is_call
from tests.passes.attention.models import Attention, heads, joined, three
from tests.support import captured

_BIASED = Call("aten.linear", name="linear", input=Any("x"), weight=Const("w"), bias=Const("b"))


def _is_last(linear: Value, name: str) -> bool:
    """Whether a linear's weight is that of ``name``."""
    weight = linear.node.args[1]
    return getattr(weight, "target", "") == f"{name}.weight"


@rule(_BIASED, source="R12b without its preconditions")
def drop_it_anyway(linear: Value, x: Value, w: Tensor, b: Tensor) -> Value:
    """W x + b = W x, for keys."""
    require(_is_last(linear, "k"), "not the keys")
    return call("aten.linear", x, w)


@rule(_BIASED, source="R12c without its preconditions")
def move_it_anyway(linear: Value, x: Value, w: Tensor, b: Tensor) -> Value:
    """The bias of the values goes through the output projection, whatever the rows sum to."""
    require(_is_last(linear, "v"), "not the values")
    graph = linear.node.graph
    out = next(n for n in graph.nodes if is_call(n, "aten.linear") and _is_last(Value(n), "out"))
    module = graph.owning_module
    assert module is not None
    weight, bias = (constant(module, node) for node in out.args[1:3])
    assert weight is not None
    assert bias is not None
    edit(Value(out), bias=bias.double() + weight.double() @ b.double())
    return call("aten.linear", x, w)


@rule(Call("aten.layer_norm", name="norm", input=Any("x")), source="R12a before the norm instead of in it")
def scale_before_norm(norm: Value, x: Value) -> Value:
    """s norm(x) = norm(s x)."""
    require(not is_call(x.node, "aten.mul.Tensor"), "scaled already")
    (attention,) = (user for user in norm.node.users if is_call(user, "aten.scaled_dot_product_attention"))
    edit(Value(attention), scale=1.0)
    scaled = call("aten.mul.Tensor", x, 0.5)
    return call("aten.layer_norm", scaled, norm["normalized_shape"], norm["weight"], norm["bias"], norm["eps"])


def rope(m: Attention, x: Tensor) -> Tensor:
    """Positions turn queries and keys by an angle each."""
    q, k, v = three(m, x)
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * torch.ones(2, dtype=x.dtype)

    def turned(t: Tensor) -> Tensor:
        first, second = t[..., :2], t[..., 2:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)

    return m.out(joined(F.scaled_dot_product_attention(turned(q), turned(k), v)))


def sigmoid(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined((q @ k.mT * 0.5).sigmoid() @ v))


def sink(m: Attention, x: Tensor) -> Tensor:
    """A logit of its own takes part of the weight."""
    q, k, v = three(m, x)
    logits = q @ k.mT * 0.5
    weights = torch.cat([logits, torch.zeros_like(logits[..., :1])], -1).softmax(-1)[..., :-1]
    return m.out(joined(weights @ v))


def key_norm(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined(F.scaled_dot_product_attention(q, F.rms_norm(k, (4,)), v)))


def mixed_after(m: Attention, x: Tensor) -> Tensor:
    q, k, v = three(m, x)
    return m.out(joined(m.mix_after((q @ k.mT * 0.5).softmax(-1)) @ v))


def masked(m: Attention, x: Tensor) -> Tensor:
    """The first query sees no key."""
    q, k, v = three(m, x)
    rows = torch.arange(5)[:, None] > 0
    mask = torch.zeros(5, 5, dtype=x.dtype).masked_fill(~rows, float("-inf"))
    return m.out(joined(F.scaled_dot_product_attention(q, k, v, mask)))


def query_norm(m: Attention, x: Tensor) -> Tensor:
    q, k, v = (heads(t) for t in (m.q(x), m.k(x), m.v(x)))
    return m.out(joined(F.scaled_dot_product_attention(m.norm(q), k, v)))


WRONG = [
    (drop_it_anyway, rope, 1e-3),
    (drop_it_anyway, sigmoid, 1e-3),
    (drop_it_anyway, sink, 1e-3),
    (drop_it_anyway, key_norm, 1e-3),
    (move_it_anyway, mixed_after, 1e-3),
    (move_it_anyway, sink, 1e-3),
    (move_it_anyway, masked, 1e-3),
    (scale_before_norm, query_norm, 1e-3),
]


@pytest.mark.parametrize(("wrong", "attend", "least"), WRONG, ids=[f"{w[0].name}-{w[1].__name__}" for w in WRONG])
def test_parity_catches_it(wrong: Rule, attend: Callable[[Attention, Tensor], Tensor], least: float) -> None:
    class WrongPass(RulePass):
        name: ClassVar[str] = "wrong-pass"
        rules: ClassVar[tuple[Rule, ...]] = (wrong,)

    program = captured(Attention(attend), 2 * torch.randn(2, 5, 8))
    with pytest.raises(ParityError, match=f"rule {wrong.name}: changed what the model computes: rel") as caught:
        Pipeline((WrongPass(),))(program)
    assert float(str(caught.value).split("relative error ")[1].split()[0]) > least


TRUE = [
    *((drop_key_bias, attend) for attend in (rope, sigmoid, sink, key_norm)),
    *((move_value_bias, attend) for attend in (sigmoid, sink, mixed_after, masked)),
]


@pytest.mark.parametrize(("true", "attend"), TRUE, ids=[f"{t[0].name}-{t[1].__name__}" for t in TRUE])
def test_the_rule_leaves_it(true: Rule, attend: Callable[[Attention, Tensor], Tensor]) -> None:
    program = captured(Attention(attend), torch.randn(2, 5, 8))
    for step in RECOVER:
        apply(step, program)
    assert apply(true, program).hits == 0


def test_scale_goes_into_the_norm_not_before_it() -> None:
    program = captured(Attention(query_norm), torch.randn(2, 5, 8))
    assert apply(fold_scale, program).hits == 1
