"""Writes into caches that touch the slot written, not all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from hycompile.builder import Value, call
from hycompile.pattern import Any, Arg, Call, Const, OneOf
from hycompile.rewrite import require, rule


def _compared(name: str | None = None) -> Call:
    position = Call("aten.remainder.Scalar", name="slot", other=Arg("slots"))
    return Call("aten.eq.Tensor", name=name, self=Const("numbers"), other=position)


@rule(
    Call(
        "aten.where.self",
        condition=OneOf(_compared("chosen"), Call("aten.unsqueeze", name="chosen", self=_compared())),
        self=Any("new"),
        other=Any("cache"),
    ),
    source="definition of index_put",
)
def write_one_slot(chosen: Value, numbers: Tensor, slot: Value, slots: int, new: Value, cache: Value) -> Value:
    """where(0 .. slots - 1 = p mod slots, new, cache) = cache with slot p mod slots set to new.

    Given: a blend of one token's keys or values [batch, heads, 1, width] into a cache [batch, heads, slots, width].
    Result: ``index_put``, which ExecuTorch does in place where the cache is state.

    Refused where the slots are not all of the cache's, in order, along the axis before its last, for several positions,
    and for anything but one token's values.
    """
    shape = cache.shape
    require(len(shape) == 4 and shape[2] == slots, "{} slots of a cache {}", slots, list(shape))
    require(slot.node.meta["val"].numel() == 1, "it writes {} positions", slot.node.meta["val"].numel())
    numbered = chosen.shape == (slots, 1) and torch.equal(numbers.flatten(), torch.arange(slots))
    require(numbered, "the slots are not numbered along the axis before the last")
    require(list(new.shape) == [*shape[:2], 1, shape[3]], "what is written is {}", list(new.shape))
    return call("aten.index_put", cache, [None, None, call("aten.reshape", slot, [1])], new)
