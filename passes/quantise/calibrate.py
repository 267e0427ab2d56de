"""Runs a Program on calibration data and lets observers see the values that are to be rounded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.fx import Node

from hycompile.errors import PassError
from hycompile.parity import play
from hycompile.passes.quantise.observers import Observer
from hycompile.program import Program


def require_calibration(program: Program, *, ranges: bool = True) -> None:
    """Refuse what ranges cannot be found for.

    Args:
        program: about to be calibrated.
        ranges: whether any are to be found; weights alone need no calibration data.

    Raises:
        PassError: on the meta device, or without calibration data that is needed.
    """
    if program.on_meta:
        raise PassError(f"program {program.name!r}", "is on the meta device: it has no values", "load its weights")
    if ranges and not program.calibration:
        raise PassError(
            f"program {program.name!r}",
            "has no calibration data, and ranges cannot be known without",
            "give --calibration DIR, or hy.quantise(program, calibration=[...])",
        )


def calibrate(
    program: Program, observers: Mapping[str, Mapping[Node, Observer]], axes: Mapping[Node, int] | None = None
) -> None:
    """Show every calibration step's values to the observers.

    Args:
        program: with its calibration steps.
        observers: by method and node.
        axes: of the channels, for nodes whose channels are rows of their own.

    Raises:
        PassError: a value is never reached, or is no finite number.
    """
    reached: set[tuple[str, Node]] = set()

    def watch(method: str, node: Node, value: object) -> None:
        observer = observers.get(method, {}).get(node)
        if observer is None or not isinstance(value, Tensor) or value.numel() == 0:
            return
        if not bool(value.isfinite().all()):
            raise PassError(
                f"value {node.name!r} of method {method!r}",
                "is NaN or infinite for a calibration sample",
                "take the sample out, or correct the model",
            )
        reached.add((method, node))
        axis = (axes or {}).get(node)
        observer.see(value.reshape(1, -1) if axis is None else value.movedim(axis, 0).flatten(1))

    for _ in play(program, program.calibration, watch):
        pass
    for method, wanted in observers.items():
        missed = [node.name for node in wanted if (method, node) not in reached]
        if missed:
            raise PassError(
                f"method {method!r}, value {missed[0]!r} and {len(missed) - 1} more"
                if missed[1:]
                else f"method {method!r}, value {missed[0]!r}",
                "is never reached by the calibration set",
                f"add samples that call {method!r} so that it is computed",
            )
