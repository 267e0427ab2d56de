"""Draws the losses of a ``curve.json`` as an SVG."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 360, 48, 36
SERIES = {"train": "#888888", "valid": "#1f6feb"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curve", type=Path)
    parser.add_argument("svg", type=Path)
    arguments = parser.parse_args()
    arguments.svg.write_text(draw(json.loads(arguments.curve.read_text())["curve"]))


def draw(curve: list[dict[str, float]]) -> str:
    """Losses in nats a token over steps; ``curve`` has ``step``, ``train`` and ``valid`` in each row."""
    losses = [row[name] for row in curve for name in SERIES]
    low, high, last = min(losses), max(losses), curve[-1]["step"]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * step / last

    def y(loss: float) -> float:
        return 16 + (HEIGHT - BOTTOM - 32) * (high - loss) / ((high - low) or 1.0)

    parts = [f'<line x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - 16}" y2="{HEIGHT - BOTTOM}" stroke="#444"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        loss, step = low + share * (high - low), share * last
        parts.append(f'<text x="{LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
        parts.append(f'<line x1="{LEFT}" y1="{y(loss):.1f}" x2="{WIDTH - 16}" y2="{y(loss):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{step:.0f}</text>')
    for index, (name, colour) in enumerate(SERIES.items()):
        points = " ".join(f"{x(row['step']):.1f},{y(row[name]):.1f}" for row in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - 16}" y="{30 + 16 * index}" text-anchor="end" fill="{colour}">{name}</text>')
    frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>\n' + "\n".join(parts) + "\n</svg>\n"


if __name__ == "__main__":
    main()
