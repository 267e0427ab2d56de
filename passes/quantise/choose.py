"""Chooses the layers that are kept, so that a budget holds, by how sensitive the outputs are to them."""

from __future__ import annotations

from dataclasses import dataclass

from hycompile.evaluation import ProgramRun
from hycompile.parity import play
from hycompile.passes.quantise.keep import by_harm, fewest, fitting
from hycompile.passes.quantise.mixture import Mixture, Unit
from hycompile.program import Program
from hycompile.quantisation.measure import Agreement
from hycompile.quantisation.plan import Sensitivity


@dataclass(frozen=True)
class Budget:
    """What must hold, and what it may cost.

    Args:
        min_sqnr: of the outputs on the calibration set, dB; an evaluation's own budget comes with the Program.
        max_bytes: for the weights, by their bits; None if the fewest layers are to be kept.
        bits: of the narrow plan's weights.
        kept_bits: of the wide plan's; 0 for float.
    """

    min_sqnr: float
    max_bytes: float | None
    bits: int
    kept_bits: int


def choose(mixture: Mixture, sensitivity: Sensitivity, budget: Budget, always: list[Unit]) -> list[Unit]:
    """The layers to keep, ``always`` among them.

    Raises:
        PassError: the weights do not fit into the budget even if nothing is kept.
    """
    order = [unit for unit in by_harm(mixture, sensitivity, budget.max_bytes is not None) if unit not in always]
    if budget.max_bytes is not None:
        return fitting(mixture, [*always, *order], budget.bits, budget.kept_bits, budget.max_bytes)
    known = [result.outputs for result in play(mixture.original, mixture.original.calibration)]

    def holds(kept: list[Unit]) -> bool:
        program, total = mixture.keeping([*always, *kept]), Agreement()
        for reference, result in zip(known, play(program, mixture.original.calibration), strict=True):
            total.add(reference, result.outputs)
        return total.compared().output_sqnr >= budget.min_sqnr and _evaluated(program)

    return [*always, *fewest(order, holds)]


def _evaluated(program: Program) -> bool:
    """Whether the user's evaluation finds the program good enough; yes if there is none, or it has no budget."""
    evaluation = program.evaluation
    if evaluation is None or evaluation.max_drop is None:
        return True
    return not evaluation.exceeded(evaluation.score("the quantised model", ProgramRun(program)))
