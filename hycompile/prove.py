"""Runs a built artifact beside the model it was made from: several inputs, several steps, outputs and final state."""

from __future__ import annotations

from torch import Tensor

from hycompile.backend import Session
from hycompile.errors import ParityError
from hycompile.parity import play, relative_error, unmerged
from hycompile.program import Program
from hycompile.script import steps
from hycompile.target import Precision

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2}


def prove(session: Session, original: Program) -> float:
    """The largest relative error of an artifact over every step of the Program's script.

    Each method that the script does not name runs on its example inputs and then on other draws of the same scale.
    All are consecutive calls over one state; where the runtime shows its state, the final one counts too.

    Args:
        session: the artifact, freshly opened.
        original: the Program before any pass.
    """
    state: dict[str, Tensor] = {}
    worst = 0.0
    script = steps(original)
    for step, reference in zip(script, play(original, script), strict=True):
        state |= reference.state
        worst = _worse(worst, relative_error(session.run(step.inputs, step.method), reference.outputs))
    shown = session.state()
    if shown is not None and state:
        known = unmerged(state, shown.keys())
        missing = sorted(known.keys() - shown.keys())
        worst = (
            float("inf") if missing else _worse(worst, max(relative_error([shown[key]], [known[key]]) for key in known))
        )
    return worst


def require_parity(what: str, error: float, precision: Precision, way_out: str) -> None:
    """Hold a relative error from :func:`prove` to the tolerance of the precision.

    Raises:
        ParityError: it is larger, or no number.
    """
    allowed = TOLERANCE[precision]
    if not error <= allowed:
        reason = f"computes something else than the model: relative error {error:.2e}, allowed {allowed:.0e}"
        raise ParityError(what, reason, way_out)


def _worse(first: float, second: float) -> float:
    """The larger error; NaN counts as infinite."""
    return max(first, second) if second == second else float("inf")
