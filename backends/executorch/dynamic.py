"""Dynamic sizes: ExecuTorch plans memory ahead, so each needs an upper bound."""

from __future__ import annotations

from torch.utils._sympy.numbers import int_oo

from hycompile.backend import Obstacle
from hycompile.program import Program


def unbounded_sizes(program: Program) -> list[Obstacle]:
    """One fatal obstacle per dynamic size without an upper bound."""
    return [
        Obstacle(
            f"dynamic size {symbol} of {name}",
            1,
            "ExecuTorch plans memory for the largest size, and it has none",
            "give it a max: torch.export.Dim(name, max=...)",
        )
        for name, method in program.methods.items()
        if method.dynamic_shapes is not None
        for symbol, bounds in method.export().range_constraints.items()
        if bounds.upper >= int_oo
    ]
