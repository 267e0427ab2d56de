"""Operators that return several parts become one select or slice a part."""

from __future__ import annotations

import operator
import time
from itertools import accumulate
from typing import Any

from torch.fx import Node

from hycompile.builder import Builder, Value, call
from hycompile.passes.fuse_conv_attention.layout import static
from hycompile.pattern import Any as AnyValue
from hycompile.pattern import Arg, Call
from hycompile.program import Method, Program, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import erase_dead, require, rule
from hycompile.schema import bind, is_call

_SPLITS = ("aten.split.Tensor", "aten.split_with_sizes", "aten.unbind.int", "aten.chunk")


def take_parts(program: Program) -> RuleReport:
    """split(x)[i] = slice(x, start_i, end_i),  unbind(x)[i] = select(x, i);  every part for itself.

    A rule cannot say so, for it replaces one value by one: this walks every split, chunk and unbind instead. A part
    that nothing uses is gone afterwards. An axis of dynamic size is refused.
    """
    report, start = RuleReport("take_parts"), time.perf_counter()
    for method in program.methods.values():
        for node in list(method.graph.graph.nodes):
            if is_call(node, *_SPLITS):
                _take(method, node, report)
        method.graph.recompile()
    report.seconds = time.perf_counter() - start
    return report


def _take(method: Method, node: Node, report: RuleReport) -> None:
    axis = bind(node)["dim"] % len(node.args[0].meta["val"].shape)  # type: ignore[union-attr]
    sizes = [part.shape[axis] for part in node.meta["val"]] if not is_call(node, "aten.unbind.int") else None
    if sizes is not None and not static(sizes):
        report.refusals.append(Refusal(f"it splits an axis of dynamic size {sizes}", node.name, source_line(node)))
        return
    ends: list[Any] = list(accumulate(sizes)) if sizes is not None else []
    for part in list(node.users):
        if part.target is not operator.getitem:
            report.refusals.append(Refusal(f"{part.name} uses all parts at once", node.name, source_line(node)))
            return
    for part in list(node.users):
        index: Any = part.args[1]
        builder = Builder(method.graph, part, "take_parts")
        whole = Value(node.args[0])  # type: ignore[arg-type]
        if sizes is None:
            taken = builder.call("aten.select.int", whole, axis, index)
        else:
            taken = builder.call("aten.slice.Tensor", whole, axis, ends[index] - sizes[index], ends[index])
        part.replace_all_uses_with(taken.node)
        erase_dead(method.graph, part)
    report.hits += 1


@rule(
    Call("aten.select.int", name="part", self=AnyValue("x"), dim=Arg("dim"), index=Arg("index")),
    source="definition of select",
)
def select_to_slice(part: Value, x: Value, dim: int, index: int) -> Value:
    """select(x, axis, i) = reshape(slice(x, axis, i, i + 1), shape without the axis).

    Given: a part of an axis, such as the queries of a projection that stays merged.
    Result: a slice and a reshape, which runtimes take that know no select: ExecuTorch's XNNPACK delegate.

    Refused where the index is negative on an axis of dynamic size, or more than one size is dynamic.
    """
    axis, size = dim % len(x.shape), x.shape[dim]
    require(index >= 0 or static([size]), "index {} counts from the end of a dynamic size", index)
    start = index % size if index < 0 else index
    dynamic = [size for size in part.shape if not static([size])]
    require(len(dynamic) <= 1, "the sizes {} are dynamic, a reshape infers one", dynamic)
    taken = call("aten.slice.Tensor", x, axis, start, start + 1)
    return call("aten.reshape", taken, [size if static([size]) else -1 for size in part.shape])
