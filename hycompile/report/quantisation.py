"""What a report says of quantisation, as lines: the same for the terminal and the HTML page."""

from __future__ import annotations

from typing import Any, cast

from hycompile.reports import BuildReport

_SHOWN = 3


def quantisation_lines(report: BuildReport) -> list[str]:
    """Nothing for a float model."""
    found = report.quantisation
    if found is None:
        return []
    values = ", ".join(f"{count} {kind}" for kind, count in found.values.items())
    lines = [
        f"quantised: {values}",
        f"to the float model on the calibration set ({found.calls} calls, no labels): signal-to-noise ratio "
        f"{found.output_sqnr:.1f} dB, worst error {found.worst_error:.1e}, same largest output {found.agreement:.1f} %",
    ]
    worst = sorted(found.layers, key=lambda layer: layer[2])[:_SHOWN]
    if worst:
        lines.append("lowest ratios: " + ", ".join(f"{node} {sqnr:.1f} dB" for _, node, sqnr in worst))
    if found.sensitivity is not None:
        layers = sorted(found.sensitivity.layers, key=lambda layer: layer[2])[:_SHOWN]
        told = ", ".join(f"{node} {alone:.1f} dB{f' ({kept})' if kept else ''}" for _, node, alone, _, kept in layers)
        lines.append(f"most sensitive ({found.sensitivity.calls} calls, each layer rounded alone): {told}")
    count = sum(count for _, count in found.converts)
    lines.append(f"converts left: {count}" + _reasons(found.converts))
    if found.kept:
        lines.append(f"layers in float: {sum(count for _, count in found.kept)}" + _reasons(found.kept))
    for row in report.runtimes:
        if row.quantised is not None:
            near = cast("dict[str, Any]", row.quantised["artifact to simulation"])
            lines.append(
                f"{row.runtime} to the quantised model: signal-to-noise ratio {near['output_sqnr']:.1f} dB, "
                f"worst error {near['worst_error']:.1e}, same largest output {near['agreement']:.1f} %"
            )
    return lines


def evaluation_lines(report: BuildReport) -> list[str]:
    """Scores by the user's function; nothing without one."""
    found = report.evaluation
    if found is None:
        return []
    scores = {"float model": found.original, "quantised model": found.simulation}
    scores |= {row.runtime: row.score for row in report.runtimes}
    told = ", ".join(f"{name} {score:.2f}" for name, score in scores.items() if score is not None)
    budget = "" if found.max_drop is None else f"; allowed drop {found.max_drop:.2f}"
    return [f"{found.function}: {told}{budget}"]


def _reasons(counts: list[tuple[str, int]]) -> str:
    return f" ({'; '.join(f'{count} {reason}' for reason, count in counts)})" if counts else ""
