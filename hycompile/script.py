"""Scripts: calls of a Program's methods in an order that means something, as a prompt and then its decodes.

Without one, a method is called on its example inputs and on further draws of them, whatever the state then means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hycompile.errors import CaptureError
from hycompile.program import Method, Program, Step

DRAWS = 3
# Steps of a script that rewrites are held to, behind the first call of every method it names: the state that a call
# left is read by the second, which leaves state of its own.
_FURTHER = 2


def checked(script: Iterable[Step], methods: Mapping[str, Method]) -> tuple[Step, ...]:
    """The script, if its steps fit the methods.

    Raises:
        CaptureError: an unknown method, or inputs of another number, type or shape than the method takes.
    """
    steps = tuple(script)
    for number, step in enumerate(steps):
        seen = f"script step {number} ({step.method!r})"
        if step.method not in methods:
            raise CaptureError(seen, "the model has no such method", f"its methods are {', '.join(methods)}")
        nodes = methods[step.method].input_nodes()
        if len(step.inputs) != len(nodes):
            takes = ", ".join(node.name for node in nodes)
            raise CaptureError(
                seen,
                f"gives {len(step.inputs)} inputs, the method takes {len(nodes)} ({takes})",
                "give a tensor for each, flat, in this order",
            )
        sizes: dict[str, int] = {}
        for node, value in zip(nodes, step.inputs, strict=True):
            if not _fits(node.meta["val"], value, sizes):
                raise CaptureError(
                    f"{seen}, input {node.name!r}",
                    f"is {_kind(value)}, the method takes {_kind(node.meta['val'])}",
                    "give it in the type and shape that the method was captured with",
                )
    return steps


def steps(program: Program) -> list[Step]:
    """The script, then the draws of every method that it does not name, as consecutive calls over one state."""
    named = {step.method for step in program.script}
    others = ((name, method) for name, method in program.methods.items() if name not in named)
    return [*program.script, *(Step(name, inputs) for name, method in others for inputs in draws(method))]


def brief(program: Program) -> list[list[Step]]:
    """Runs short enough to check every rewrite by; each starts from the state that was captured.

    The script's beginning, up to a few steps behind the first call of each method it names; and one call of each other
    method, on its examples.
    """
    first: dict[str, int] = {}
    for number, step in enumerate(program.script):
        first.setdefault(step.method, number)
    runs = [list(program.script[: max(first.values()) + 1 + _FURTHER])] if first else []
    others = (name for name in program.methods if name not in first)
    return runs + [[Step(name, program.methods[name].flat_inputs())] for name in others]


def draws(method: Method) -> list[tuple[Any, ...]]:
    """The example inputs, then two more of the same shape: shuffled, and shuffled with another sign and scale."""
    examples = method.flat_inputs()
    generator = torch.Generator().manual_seed(0)
    return [examples, *(tuple(_redraw(value, step, generator) for value in examples) for step in range(1, DRAWS))]


def _redraw(value: Any, step: int, generator: torch.Generator) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 0:
        return value
    order = torch.randperm(value.numel(), generator=generator)
    shuffled = value.reshape(-1)[order].reshape(value.shape)
    return shuffled if step % 2 else -0.5 * shuffled


def _fits(takes: Tensor, value: Any, sizes: dict[str, int]) -> bool:
    """Whether a value can stand for an input; ``sizes`` keeps what each dynamic size is within one call."""
    if not isinstance(value, Tensor) or value.dtype != takes.dtype or value.ndim != takes.ndim:
        return False
    return all(_size_fits(size, given, sizes) for size, given in zip(takes.shape, value.shape, strict=True))


def _size_fits(size: Any, given: int, sizes: dict[str, int]) -> bool:
    if isinstance(size, int):
        return given == size
    bounds = size.node.shape_env.bound_sympy(size.node.expr)
    return bool(bounds.lower <= given <= bounds.upper) and sizes.setdefault(str(size), given) == given


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    sizes: Sequence[Any] = value.shape
    return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, sizes))}]"
