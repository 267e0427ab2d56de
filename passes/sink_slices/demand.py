"""Which rows of every value are needed, from the results backwards: all of them, or those one selection names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import getitem

from torch import SymInt
from torch.fx import Graph, Node

from hycompile.attributes import is_state
from hycompile.macs import product_of
from hycompile.passes.sink_slices.arguments import Axes, map_arguments
from hycompile.passes.sink_slices.rows import needed_rows
from hycompile.passes.sink_slices.selection import Selected, Selection, first_equal, selected_rows
from hycompile.program import source_line
from hycompile.reports import Refusal
from hycompile.rewrite import Refused


@dataclass(frozen=True)
class Rows:
    """The rows of ``selection`` along ``axis`` of one value."""

    axis: int
    selection: Selection


@dataclass(frozen=True)
class Narrowed:
    """A node of which one selection's rows are all that is needed, and the axes of those rows in its arguments."""

    rows: Rows
    axes: Axes


@dataclass
class Demand:
    """What :func:`demand` found in one graph.

    Args:
        narrowed: nodes of which fewer rows are to be computed.
        selected: the selections they come from.
        stops: why a selection goes no further, in graph order of the places.
    """

    narrowed: dict[Node, Narrowed]
    selected: dict[Node, Selected]
    stops: list[Refusal]


def demand(graph: Graph) -> Demand:
    """Go through ``graph`` from its end: a value is needed in part only if every user needs the same rows of it.

    A selection that reaches no product is left where it is, for to move it past cheap operators changes nothing that
    counts; what is needed without it is then found anew, since its rows may have hidden those of another one.
    """
    equal, varying = first_equal(graph), _varying(graph)
    dropped, refusals = set[Selection](), list[Refusal]()
    while True:
        analysis = _Analysis(graph, equal, varying, dropped)
        found = analysis.run()
        sunk = {narrowed.rows.selection for node, narrowed in found.narrowed.items() if product_of(node)}
        useless = {selected.selection for selected in found.selected.values()} - sunk
        useless |= {narrowed.rows.selection for narrowed in found.narrowed.values()} - sunk
        if not useless:
            found.stops = refusals + [stop.refusal for stop in reversed(analysis.stops)]
            return found
        refusals += [stop.refusal for stop in reversed(analysis.stops) if stop.of in useless and stop.counts]
        dropped |= useless


@dataclass(frozen=True)
class _Stop:
    """Where a selection ends; ``shared`` if only for other users of the value."""

    of: Selection
    refusal: Refusal
    shared: bool

    @property
    def counts(self) -> bool:
        """Whether a selection that reached nothing is worth a word: slices of channels stop everywhere."""
        return self.of.count == 1 and not self.shared


def _varying(graph: Graph) -> set[Node]:
    """What depends on values of inputs or state, not on their sizes alone as masks and positions do."""
    found = set[Node]()
    for node in graph.nodes:
        given = node.op == "placeholder" or (node.op == "get_attr" and is_state(node))
        if (given or not found.isdisjoint(node.all_input_nodes)) and not isinstance(node.meta.get("val"), SymInt):
            found.add(node)
    return found


class _Analysis:
    def __init__(self, graph: Graph, equal: dict[Node, Node], varying: set[Node], dropped: set[Selection]) -> None:
        self.graph, self.equal, self.varying, self.dropped = graph, equal, varying, dropped
        self.asked: dict[Node, dict[Rows | None, Node]] = {}
        self.stops: list[_Stop] = []

    def run(self) -> Demand:
        found = Demand({}, {}, [])
        for node in reversed(self.graph.nodes):
            rows = self._demanded(node)
            axes = self._needed(node, rows) if rows else None
            selected = self._selected(node)
            if rows and axes is not None:
                found.narrowed[node] = Narrowed(rows, axes)
                self._ask_arguments(node, rows, axes)
                continue
            for value in node.all_input_nodes:
                if selected is None or value is not selected.source:
                    self._ask(value, None, node)
            if selected is not None:
                found.selected[node] = selected
                self._ask(selected.source, Rows(selected.axis, selected.selection), node)
        # One of several results is computed for fewer rows only with all of them.
        parts = [node for node in found.narrowed if node.target is getitem and node.args[0] not in found.narrowed]
        for node in parts:
            del found.narrowed[node]
        return found

    def _ask(self, value: Node, rows: Rows | None, user: Node) -> None:
        self.asked.setdefault(value, {}).setdefault(rows, user)

    def _ask_arguments(self, node: Node, rows: Rows, axes: Axes) -> None:
        def ask(value: Node, axis: int | None) -> None:
            self._ask(value, None if axis is None else Rows(axis, rows.selection), node)

        map_arguments(node, axes, ask)

    def _demanded(self, node: Node) -> Rows | None:
        """The rows all users ask for; None if one needs the value whole, or they differ."""
        asked = self.asked.get(node, {})
        if len(asked) == 1:
            return next(iter(asked))
        whole = asked.get(None)
        reason = f"{whole.name} needs all its rows" if whole else "its users need different rows"
        for rows in asked:
            if rows is not None:
                self._stop(rows, node, reason, shared=True)
        return None

    def _needed(self, node: Node, rows: Rows) -> Axes | None:
        try:
            return needed_rows(node, rows.axis)
        except Refused as refusal:
            self._stop(rows, node, str(refusal), shared=False)
            return None

    def _stop(self, rows: Rows, node: Node, reason: str, *, shared: bool) -> None:
        """Inputs, weights and masks are no place to stop: there is nothing beyond that counts."""
        if node.all_input_nodes and node in self.varying:
            self.stops.append(_Stop(rows.selection, Refusal(reason, node.name, source_line(node)), shared))

    def _selected(self, node: Node) -> Selected | None:
        found = selected_rows(node)
        if found is not None and found.selection.index is not None:
            found = replace(found, selection=replace(found.selection, index=self.equal[found.selection.index]))
        return None if found is None or found.selection in self.dropped else found
