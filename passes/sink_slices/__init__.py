"""The last token's slice, pushed from the logits towards the inputs."""

from __future__ import annotations

import time
from typing import ClassVar

from hycompile.macs import macs
from hycompile.passes.sink_slices.demand import demand
from hycompile.passes.sink_slices.narrow import NAME, narrow
from hycompile.pipeline import Check, Pass
from hycompile.program import Method, Program
from hycompile.reports import Refusal, RuleReport

__all__ = ["SinkSlices"]


class SinkSlices(Pass):
    """f(x)[:, S] = f(x[:, S]):  rows S are selected before f where row i of f depends on row i of x only.

    Given: a selection of rows, as one takes the last token's logits: a slice or select with constant bounds, an
    ``index_select`` or an index by one tensor. Sinks through: linears, norms, elementwise operators, views that keep
    the axis of rows whole, concatenations and splits of other axes, softmax and reductions along other axes, products
    by rows of their left operand, embeddings, and attention, of which queries and mask lose rows while keys and values
    stay whole; causal attention gets the rows of its mask. Every user of a value must need the same rows of it.

    Result: these operators compute the selected rows only; a value that others need whole is selected from there. A
    YOCO decoder prefills its second half for one token; a plain decoder computes queries, output and MLP of its last
    layer for one. Hits are operators that compute fewer rows, and the report has the multiply-accumulates of linears
    before and after. A selection that reaches no product stays where it is.

    Refused, with the reason, where a selection stops: at convolutions, recurrences, poolings and running totals over
    the rows, at what is not known, and at a value that another user needs whole.

    Source: R26 and P-2 of the rule catalogue; the cut is that of YOCO (Sun et al. 2024).
    """

    name: ClassVar[str] = "sink-slices"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport(NAME), time.perf_counter()
        for name, method in program.methods.items():
            _sink(name, method, report)
        report.seconds = time.perf_counter() - start
        if report.hits:
            check(program, report)
        return [report]


def _sink(name: str, method: Method, report: RuleReport) -> None:
    """Again until nothing is narrowed: what one selection leaves may be the way of another."""
    before, hits = macs(method.graph)["linear"], 0
    stops: dict[str, Refusal] = {}
    while True:
        found = demand(method.graph.graph)
        stops |= {stop.node: stop for stop in found.stops if stop.node not in stops}
        if not found.narrowed:
            break
        hits += narrow(method.graph, found)
    left = {node.name for node in method.graph.graph.nodes}
    report.refusals += [stop for stop in stops.values() if stop.node in left]
    report.hits += hits
    if hits:
        report.facts[f"{name}_linear_macs_before"] = before
        report.facts[f"{name}_linear_macs_after"] = macs(method.graph)["linear"]
