"""What the records come to: geometric means over models, and the goals beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from benchmarks.latency.records import OURS, REFERENCE, RIVALS, Record

Clock = Literal["wall", "cpu"]
Models = Mapping[str, Mapping[str, Record]]
NOT_MEASURED = "not measured yet"
_PARITY = 1e-5
_MAX_DELEGATES = 3


class Spread(NamedTuple):
    """A ratio over models: geometric mean, the worst with its model, and how many models it is of."""

    mean: float
    worst: float
    worst_model: str
    models: int


class Goal(NamedTuple):
    """One line of the acceptance list."""

    text: str
    wanted: str
    measured: str


def by_model(records: Iterable[Record], threads: int) -> Models:
    """Model to contender to record, of one thread count."""
    table: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.threads == threads:
            table.setdefault(record.model, {})[record.contender] = record
    return table


def ratio_of(record: Record | None, clock: Clock) -> float | None:
    """Its ratio to the reference, None where it was not timed."""
    if record is None or record.status != "timed":
        return None
    return record.wall_ratio if clock == "wall" else record.cpu_ratio


def best(row: Mapping[str, Record], names: Sequence[str], clock: Clock = "wall") -> tuple[str, float] | None:
    """The fastest of some contenders on one model, and its ratio to the reference."""
    ratios = [(ratio, name) for name in names if (ratio := ratio_of(row.get(name), clock)) is not None]
    return (min(ratios)[1], min(ratios)[0]) if ratios else None


def spread(ratios: Mapping[str, float | None]) -> Spread | None:
    """Over the models that have a ratio; None if none has."""
    known = {model: ratio for model, ratio in ratios.items() if ratio}
    if not known:
        return None
    worst = max(known, key=lambda model: known[model])
    mean = math.exp(math.fsum(math.log(ratio) for ratio in known.values()) / len(known))
    return Spread(mean, known[worst], worst, len(known))


def against(models: Models, first: Sequence[str], second: Sequence[str], clock: Clock = "wall") -> Spread | None:
    """The best of ``first`` over the best of ``second``, where each model has both.

    Both are ratios to the reference of the same rounds, so that what divides out is the machine.
    """

    def one(row: Mapping[str, Record]) -> float | None:
        mine, theirs = best(row, first, clock), best(row, second, clock)
        return mine[1] / theirs[1] if mine and theirs else None

    return spread({model: one(row) for model, row in models.items()})


def build_ratio(models: Models, first: str, second: str, field: str = "build_seconds") -> Spread | None:
    """Build time of one contender over another's, where both built."""

    def one(row: Mapping[str, Record]) -> float | None:
        mine, theirs = (getattr(row[name], field) if name in row else None for name in (first, second))
        return mine / theirs if mine and theirs else None

    return spread({model: one(row) for model, row in models.items()})


def goals(models: Models, clock: Clock = "wall") -> list[Goal]:
    """The acceptance list with what was measured on one thread count."""
    stock = against(models, ["hycompile-executorch"], ["executorch"], clock)
    onnx = against(models, ["hycompile-executorch"], [REFERENCE], clock)
    rivals = against(models, OURS, RIVALS, clock)
    tvm = against(models, ["hycompile-tvm"], [REFERENCE], clock)
    build = build_ratio(models, "hycompile-executorch", "executorch")
    return [
        Goal("ExecuTorch artifacts in at most 3 delegates, no compute operator outside", "every model", _whole(models)),
        Goal("hycompile-executorch over stock ExecuTorch, geomean", "<= 0.45", _mean(stock)),
        Goal("hycompile-executorch over stock ExecuTorch, slowest model", "<= 1.0", _worst(stock)),
        Goal("hycompile-executorch over ONNX Runtime, geomean", "<= 0.8", _mean(onnx)),
        Goal("hycompile-executorch over ONNX Runtime, slowest model", "<= 1.0", _worst(onnx)),
        Goal("our best over the best rival's, geomean", "<= 0.75", _mean(rivals)),
        Goal("our best over the best rival's, slowest model", "<= 1.0", _worst(rivals)),
        Goal("hycompile-tvm over ONNX Runtime, geomean", "<= 1.5 tuned, <= 4.0 untuned", _mean(tvm)),
        Goal("build time of hycompile-executorch over stock ExecuTorch's, geomean", "<= 0.5", _mean(build)),
        Goal("relative error of our artifacts, largest", f"< {_PARITY:.0e}, none failed", _parity(models)),
    ]


def _mean(found: Spread | None) -> str:
    return NOT_MEASURED if found is None else f"{found.mean:.3g} ({found.models} models)"


def _worst(found: Spread | None) -> str:
    return NOT_MEASURED if found is None else f"{found.worst:.3g} ({found.worst_model})"


def _whole(models: Models) -> str:
    rows = {model: row["hycompile-executorch"] for model, row in models.items() if "hycompile-executorch" in row}
    known = {model: row for model, row in rows.items() if row.delegates is not None and row.outside_ops is not None}
    if not known:
        return NOT_MEASURED
    missed = [model for model, row in known.items() if (row.delegates or 0) > _MAX_DELEGATES or row.outside_ops]
    return f"{len(known) - len(missed)} of {len(known)} models" + (f"; not {', '.join(missed)}" if missed else "")


def _parity(models: Models) -> str:
    rows = [row[name] for row in models.values() for name in OURS if name in row]
    failed = [f"{row.contender} on {row.model}" for row in rows if row.status == "failed"]
    worst = max((row for row in rows if row.rel_err is not None), key=lambda row: row.rel_err or 0.0, default=None)
    if worst is None and not failed:
        return NOT_MEASURED
    text = "" if worst is None else f"{worst.rel_err:.1e} ({worst.contender} on {worst.model})"
    return "; ".join(filter(None, [text, f"failed: {', '.join(failed)}" if failed else ""]))
