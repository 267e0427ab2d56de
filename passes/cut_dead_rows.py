"""Outputs of a linear that no slice of it reads."""

from __future__ import annotations

import operator
import time
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.pipeline import Check, Pass
from hycompile.program import Program, constant
from hycompile.reports import RuleReport
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

_SPLITS = ("aten.split.Tensor", "aten.split_with_sizes")
Range = tuple[int, int]


class CutDeadRows(Pass):
    """(W x + b)[i] = W[i] x + b[i]:  rows i of W that no slice reads are not computed.

    Given: a linear all of whose uses are slices or splits along its outputs, some outputs in none of them, such as the
    queries that FcaFormer computes and does not use. Result: a linear of the rows that are read, and slices of it.
    """

    name: ClassVar[str] = "cut-dead-rows"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("cut_dead_rows"), time.perf_counter()
        for method in program.methods.values():
            for node in list(method.graph.graph.nodes):
                report.hits += is_call(node, "aten.linear") and _cut(method.graph, node)
            method.graph.recompile()
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]


def _cut(module: GraphModule, linear: Node) -> bool:
    a = bind(linear)
    weight, bias = constant(module, a["weight"]), constant(module, a["bias"])
    if weight is None or weight.dim() != 2 or (bias is None and a["bias"] is not None):
        return False
    pieces = _pieces(linear)
    if pieces is None:
        return False
    read = torch.zeros(weight.shape[0], dtype=torch.bool)
    for start, end in pieces.values():
        read[start:end] = True
    if bool(read.all()) or not bool(read.any()):
        return False
    build = Builder(module, linear, "cut_dead_rows")
    smaller = build.call("aten.linear", Value(a["input"]), weight[read], None if bias is None else bias[read])
    for node, (start, end) in pieces.items():
        before = int(read[:start].sum())
        build.before = node
        node.replace_all_uses_with(build.call("aten.slice.Tensor", smaller, -1, before, before + end - start).node)
        erase_dead(module, node)
    return True


def _pieces(linear: Node) -> dict[Node, Range] | None:
    """The slices that read a linear, each with the outputs it reads; None if anything else does."""
    found: dict[Node, Range] = {}
    for user in linear.users:
        pieces = _sliced(user) if is_call(user, "aten.slice.Tensor") else _split(user)
        if pieces is None or bind(user)["self"] is not linear:
            return None
        found |= pieces
    return found


def _sliced(node: Node) -> dict[Node, Range] | None:
    a, shape = bind(node), node.args[0].meta["val"].shape  # type: ignore[union-attr]
    if a["dim"] % len(shape) != len(shape) - 1 or a["step"] != 1:
        return None
    start, end, _ = slice(a["start"], a["end"]).indices(shape[-1])
    return {node: (start, end)}


def _split(node: Node) -> dict[Node, Range] | None:
    if not is_call(node, *_SPLITS):
        return None
    parts: list[Tensor] = node.meta["val"]
    rank = parts[0].dim()
    if bind(node)["dim"] % rank != rank - 1 or any(user.target is not operator.getitem for user in node.users):
        return None
    ends = torch.tensor([part.shape[-1] for part in parts]).cumsum(0).tolist()
    reads = {user: int(user.args[1]) for user in node.users if user.users}  # type: ignore[arg-type]
    return {user: (ends[index] - parts[index].shape[-1], ends[index]) for user, index in reads.items()}
