"""Joins the ``curves.json`` of several trainings into one, draws it as an SVG and prints the table of accuracies."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 420, 320, 44, 32, 36, 130
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
Row = dict[str, Any]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("build/train_small_vision"))
    arguments = parser.parse_args()
    parts = [json.loads(path.read_text()) for path in arguments.curves]
    rows = sorted((row for part in parts for row in part["runs"]), key=key)
    trainings = [{name: value for name, value in part.items() if name != "runs"} for part in parts]
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts, runs = (",\n".join(json.dumps(entry) for entry in entries) for entries in (trainings, rows))
    (arguments.out / "curves.json").write_text(f'{{"trainings": [\n{facts}\n],\n"runs": [\n{runs}\n]}}\n')
    (arguments.out / "curves.svg").write_text(draw(rows))
    print(table(rows))


def key(row: Row) -> tuple[str, str, int]:
    return row["data"], row["network"], row["seed"]


def table(rows: list[Row]) -> str:
    """Top-1 on the test split in percent: every seed, their mean, and highest less lowest."""
    seeds = sorted({row["seed"] for row in rows})
    head = ["data", "network", "parameters", *(f"seed {seed}" for seed in seeds), "mean", "spread"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for data, network, group in grouped(rows):
        found = [row["top1"] for row in group]
        cells = [*found, statistics.mean(found), max(found) - min(found)]
        figures = " | ".join(f"{cell:.2f}" for cell in cells)
        lines.append(f"| {data} | {network} | {group[0]['parameters']:,} | {figures} |")
    return "\n".join(lines)


def grouped(rows: list[Row]) -> Iterable[tuple[str, str, list[Row]]]:
    """Data set, network and the rows of its seeds."""
    names = sorted({(row["data"], row["network"]) for row in rows})
    for data, network in names:
        yield data, network, [row for row in rows if (row["data"], row["network"]) == (data, network)]


def draw(rows: list[Row]) -> str:
    """Mean top-1 of the seeds over epochs, a panel a data set and a line a network."""
    panels = sorted({row["data"] for row in rows})
    drawn = [panel(data, [row for row in rows if row["data"] == data], i * WIDTH) for i, data in enumerate(panels)]
    legend = [
        f'<text x="{len(panels) * WIDTH + 8}" y="{TOP + 18 * i}" fill="{COLOURS[i % len(COLOURS)]}">{network}</text>'
        for i, network in enumerate(networks(rows))
    ]
    frame = f'viewBox="0 0 {len(panels) * WIDTH + LEGEND} {HEIGHT}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>\n' + "\n".join([*drawn, *legend]) + "\n</svg>\n"


def networks(rows: list[Row]) -> list[str]:
    return sorted({row["network"] for row in rows})


def panel(data: str, rows: list[Row], left: int) -> str:
    """One data set's lines, from 0 epochs and the lowest figure to the last epoch and the highest."""
    points = [point for row in rows for point in row["curve"]]
    last = max(point["epoch"] for point in points)
    low, high = min(point["top1"] for point in points), max(point["top1"] for point in points)

    def x(epoch: float) -> float:
        return left + LEFT + (WIDTH - LEFT - 16) * epoch / last

    def y(top1: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - top1) / ((high - low) or 1.0)

    parts = [f'<text x="{left + LEFT}" y="18">{data}: top-1 in % by epochs</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        top1, epoch = low + share * (high - low), share * last
        parts.append(f'<text x="{left + LEFT - 6}" y="{y(top1) + 4:.1f}" text-anchor="end">{top1:.0f}</text>')
        parts.append(f'<line x1="{x(0):.1f}" y1="{y(top1):.1f}" x2="{x(last):.1f}" y2="{y(top1):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{epoch:.0f}</text>')
    for index, network in enumerate(networks(rows)):
        curves = [row["curve"] for row in rows if row["network"] == network]
        means = [(at[0]["epoch"], statistics.mean(point["top1"] for point in at)) for at in zip(*curves, strict=True)]
        line = " ".join(f"{x(epoch):.1f},{y(top1):.1f}" for epoch, top1 in means)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="1.5"/>'
        )
    return "\n".join(parts)


if __name__ == "__main__":
    main()
