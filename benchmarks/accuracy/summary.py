"""What the rows come to: losses over networks, and the goals beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.accuracy.methods import EVERY, OURS, setting
from benchmarks.accuracy.records import SIMULATION
from benchmarks.accuracy.rows import Row

NOT_MEASURED = "not measured yet"
# Metrics whose tables are of points lost; those of language models are in language_table.
_POINTS = ("top1", "cer", "line_accuracy")
# What a goal is about, by test bed; other metrics of a bed are shown and not judged.
_JUDGED = ("top1", "cer")
# Points a method may lose on a vision test bed; of character error rates, for text.
_MOST_LOST = {"W8A8": {"top1": 0.5, "cer": 0.2}, "W6A6": {"top1": 1.5}, "W4A8": {"top1": 2.0, "cer": 2.0}}
_SAME_ANSWERS = 99.5

# Network to method to row.
Table = Mapping[str, Mapping[str, Row]]


class Goal(NamedTuple):
    """One line of the acceptance list."""

    text: str
    wanted: str
    measured: str


def tables(rows: Iterable[Row]) -> Mapping[tuple[str, str, str], Table]:
    """Simulated rows by test bed, bits and metric, beds and metrics in order of their names."""
    found: dict[tuple[str, str, str], dict[str, dict[str, Row]]] = {}
    for row in sorted(rows, key=lambda row: (row.testbed, -row.weight_bits * row.activation_bits)):
        if row.runner == SIMULATION and row.metric in _POINTS:
            key = (row.testbed, setting(row.weight_bits, row.activation_bits), row.metric)
            found.setdefault(key, {}).setdefault(row.model, {})[row.method] = row
    return found


def methods_of(table: Table) -> list[str]:
    """The methods in a table, known ones in their own order."""
    found = {method for row in table.values() for method in row}
    known = [method for method in EVERY if method in found]
    return [*known, *sorted(found - set(known))]


def losses(table: Table, method: str) -> dict[str, float]:
    """Points lost by network."""
    return {model: row[method].loss for model, row in table.items() if method in row}


def mean_loss(table: Table, method: str) -> float | None:
    """Points lost in the mean over networks; None unless all of them were measured."""
    found = losses(table, method)
    return statistics.fmean(found.values()) if len(found) == len(table) else None


def goals(rows: Sequence[Row]) -> list[Goal]:
    """The acceptance list with what was measured."""
    found: list[Goal] = []
    for (bed, bits, metric), table in tables(rows).items():
        most = _MOST_LOST.get(bits, {}).get(metric)
        if metric in _JUDGED and most is not None:
            text = f"{bed}, {bits}: points of {metric} lost"
            found.append(Goal(text, f"<= {most:g}, every network", _ours_and_best(table)))
            if bits == "W6A6":
                found.append(Goal(f"{bed}, {bits}: {OURS} beside the best baseline, mean", "less lost", _beside(table)))
    for (bed, runner), shares in sorted(_agreement(rows).items()):
        least = min(shares, key=lambda pair: pair[1])
        text = f"{bed}: answers of {runner}'s artifacts that are the simulation's, least"
        found.append(Goal(text, f">= {_SAME_ANSWERS:g} %", f"{least[1]:.2f} % ({least[0]})"))
    return found


def _ours_and_best(table: Table) -> str:
    """What our method loses, and what the one that loses least does."""
    means = {name: loss for name in methods_of(table) if (loss := mean_loss(table, name)) is not None}
    best = min(means, key=lambda name: means[name], default=OURS)
    ours = f"{OURS}: {_worst(table, OURS)}"
    return ours if best == OURS else f"{ours}; {best}: {_worst(table, best)}"


def _worst(table: Table, method: str) -> str:
    found = losses(table, method)
    if not found:
        return NOT_MEASURED
    worst = max(found, key=lambda model: found[model])
    return f"{statistics.fmean(found.values()):.2f} in the mean, {found[worst]:.2f} at most ({worst})"


def _beside(table: Table) -> str:
    baselines = {
        method: loss
        for method in methods_of(table)
        if not method.startswith(OURS) and (loss := mean_loss(table, method)) is not None
    }
    ours = mean_loss(table, OURS)
    if ours is None or not baselines:
        return NOT_MEASURED
    best = min(baselines, key=lambda method: baselines[method])
    return f"{ours:.2f} beside {baselines[best]:.2f} ({best})"


def _agreement(rows: Iterable[Row]) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Of artifacts, by test bed and runner: network and share of answers, each seed by itself."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in rows:
        if row.runner != SIMULATION and row.metric == "agreement":
            what = f"{row.model}, {row.method} {setting(row.weight_bits, row.activation_bits)}"
            found.setdefault((row.testbed, row.runner), []).extend((what, share) for share in row.values)
    return found
