"""The committed table: one row for a network, method, pair of bits and metric, over all seeds that were measured."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.accuracy.records import Metric, Record, Score, Strict, beside_float

# Metrics of errors, where less is better.
ERRORS: tuple[Metric, ...] = ("cer", "bits_per_byte")


class Row(Strict):
    """One entry of ``results.json``; percent where the metric is a rate.

    Args:
        reference: ``float`` in the file, the float network's figure, the mean over ``seeds``.
        mean: of the quantised network, over ``seeds``.
        spread: standard deviation over ``seeds``; None where there is only one.
        seeds: those measured; where weights are trained, each is a training of its own.
        values: by seed.
        floats: by seed.
        runner: ``simulation``, or the runtime of the artifact. There, ``agreement`` is with the simulation.
        pipeline: text of the passes.
        samples: test inputs of each seed.
    """

    testbed: str
    model: str
    method: str
    weight_bits: int
    activation_bits: int
    metric: Metric
    reference: float = beside_float()
    mean: float
    spread: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    floats: tuple[float, ...]
    runner: str
    pipeline: str
    samples: int

    @property
    def loss(self) -> float:
        """Points lost against float, in the mean; below zero where it is better."""
        return self.mean - self.reference if self.metric in ERRORS else self.reference - self.mean


def rows(records: Sequence[Record]) -> list[Row]:
    """Rows in order of their names, from all records that were measured."""
    found: dict[tuple[Any, ...], list[tuple[int, Score]]] = defaultdict(list)
    for record in records:
        what = (record.weight_bits, record.activation_bits)
        for score in record.scores:
            key = (score.testbed, record.model, record.method, *what, score.metric, record.runner)
            found[*key, record.pipeline, score.samples].append((record.seed, score))
    return [_row(key, sorted(scores, key=lambda pair: pair[0])) for key, scores in sorted(found.items())]


def _row(key: tuple[Any, ...], scores: Sequence[tuple[int, Score]]) -> Row:
    testbed, model, method, weight_bits, activation_bits, metric, runner, pipeline, samples = key
    values, floats = [score.value for _, score in scores], [score.reference for _, score in scores]
    return Row(
        testbed=testbed,
        model=model,
        method=method,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        metric=metric,
        reference=statistics.fmean(floats),
        mean=statistics.fmean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        seeds=tuple(seed for seed, _ in scores),
        values=tuple(values),
        floats=tuple(floats),
        runner=runner,
        pipeline=pipeline,
        samples=samples,
    )


def dump(table: Sequence[Row]) -> str:
    """The text of ``results.json``: one row a line."""
    lines = [json.dumps(_rounded(row.model_dump(mode="json", by_alias=True))) for row in table]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def _rounded(value: Any) -> Any:
    """Four digits after the point: a hundredth of what one test input of ten thousand makes."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return {name: _rounded(one) for name, one in value.items()} if isinstance(value, dict) else value
