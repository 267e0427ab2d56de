"""Runs a built artifact beside the model it was made from: several inputs, several steps, outputs and final state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hycompile.attributes import used_tensors
from hycompile.backend import Session
from hycompile.errors import ParityError
from hycompile.parity import execute, relative_error, unmerged
from hycompile.program import Method, Program
from hycompile.target import Precision

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2}
STEPS = 3


def prove(session: Session, original: Program) -> float:
    """The largest relative error of an artifact over every method.

    Each method runs on its example inputs and then on other draws of the same scale. A method with state runs them as
    consecutive steps; where the runtime shows its state, the final one counts too.

    Args:
        session: the artifact, freshly opened.
        original: the Program before any pass.
    """
    state: dict[str, Tensor] = {}
    worst = 0.0
    for name, method in original.methods.items():
        for inputs in draws(method):
            reference = execute(
                method, inputs, state={key: state[key] for key in used_tensors(method.graph) if key in state}
            )
            state |= reference.state
            worst = _worse(worst, relative_error(session.run(inputs, name), reference.outputs))
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


def draws(method: Method) -> list[tuple[Any, ...]]:
    """The example inputs, then two more of the same shape: shuffled, and shuffled with another sign and scale."""
    examples = method.flat_inputs()
    generator = torch.Generator().manual_seed(0)
    return [examples, *(tuple(_redraw(value, step, generator) for value in examples) for step in range(1, STEPS))]


def _redraw(value: Any, step: int, generator: torch.Generator) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 0:
        return value
    order = torch.randperm(value.numel(), generator=generator)
    shuffled = value.reshape(-1)[order].reshape(value.shape)
    return shuffled if step % 2 else -0.5 * shuffled


def _worse(first: float, second: float) -> float:
    """The larger error; NaN counts as infinite."""
    return max(first, second) if second == second else float("inf")
