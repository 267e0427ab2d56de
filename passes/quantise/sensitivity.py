"""Every layer on its own: what rounding it alone does to the outputs, and what is gained if it alone is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from torch import Tensor

from hycompile.parity import play
from hycompile.passes.quantise.mixture import Mixture, Unit
from hycompile.program import Program, Step
from hycompile.quantisation.measure import Agreement
from hycompile.quantisation.plan import LayerSensitivity, Sensitivity


def measure_sensitivity(mixture: Mixture, calibration: Sequence[Step], calls: int) -> Sensitivity:
    """Build and run the model twice for every layer, every weight rounded to the nearest.

    Args:
        mixture: the float model and its plan.
        calibration: what to run.
        calls: the first so many of each method.
    """
    steps = _first(calibration, calls)
    known = [result.outputs for result in play(mixture.original, steps)]
    layers = tuple(
        LayerSensitivity(
            method=unit[0][0],
            node=unit[0][1],
            alone=_ratio(mixture.alone(unit), steps, known),
            without=_ratio(mixture.keeping([unit], quick=True), steps, known),
        )
        for unit in mixture.units
    )
    return Sensitivity(calls=len(steps), together=_ratio(mixture.keeping([], quick=True), steps, known), layers=layers)


def marked(found: Sensitivity, kept: Collection[Unit], bits: int) -> Sensitivity:
    """The same, with what became of the layers that are kept: 0 bits are float."""
    names, what = {name for unit in kept for name in unit}, f"{bits} bits" if bits else "float"
    return found.model_copy(
        update={
            "layers": tuple(
                layer.model_copy(update={"kept": what}) if (layer.method, layer.node) in names else layer
                for layer in found.layers
            )
        }
    )


def _first(steps: Sequence[Step], calls: int) -> list[Step]:
    seen: Counter[str] = Counter()
    chosen: list[Step] = []
    for step in steps:
        seen[step.method] += 1
        if seen[step.method] <= calls:
            chosen.append(step)
    return chosen


def _ratio(program: Program, steps: Sequence[Step], known: Sequence[Sequence[Tensor]]) -> float:
    """Signal-to-noise ratio of all outputs, dB."""
    total = Agreement()
    for reference, result in zip(known, play(program, steps), strict=True):
        total.add(reference, result.outputs)
    return total.compared().output_sqnr
