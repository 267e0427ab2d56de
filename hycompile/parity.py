"""Does it still compute what the model computed? Runs graphs on copied state and compares outputs and final state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from hycompile.attributes import state_writes, tensor_at, used_tensors
from hycompile.errors import ParityError
from hycompile.program import Method, Program, Step
from hycompile.schema import is_call
from hycompile.script import brief

# Relative to the output's scale. An exact rewrite differs from the original by rounding only.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


# Told of a method's name, a node and the value it just computed.
Watch = Callable[[str, Node, object], None]


@dataclass(frozen=True)
class Result:
    """Flat outputs and the state after the call, by buffer name."""

    outputs: tuple[Tensor, ...]
    state: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Everything a user can observe, by a name for messages."""
        return {f"output {index}": value for index, value in enumerate(self.outputs)} | {
            f"state {name}": value for name, value in self.state.items()
        }


class _OnCopies(Interpreter):
    """Runs a graph functionally: state writes go to a side table, the module's own tensors stay as they are."""

    def __init__(self, method: Method, state: dict[str, Tensor], watch: Callable[[Node, object], None] | None) -> None:
        super().__init__(method.graph)
        self.state, self.final, self.watch = state, dict(state), watch

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self.state.get(str(target), tensor_at(self.module, str(target)))  # type: ignore[arg-type]

    def run_node(self, n: Node) -> Any:
        if is_call(n, "aten.copy_") and isinstance(n.args[0], Node):
            self.final[str(n.args[0].target)] = self.env[n.args[1]]  # type: ignore[index]
            return None
        value = super().run_node(n)
        if self.watch is not None:
            self.watch(n, value)
        return value


def execute(
    method: Method,
    inputs: Sequence[Any] | None = None,
    dtype: torch.dtype | None = None,
    state: dict[str, Tensor] | None = None,
    watch: Callable[[Node, object], None] | None = None,
) -> Result:
    """Run a method on flat inputs (its own examples by default) without touching the Program's state.

    Args:
        method: what to run.
        inputs: flat inputs in placeholder order.
        dtype: run the method converted to this type.
        state: start from this state instead of the captured one, as in a second step.
        watch: told of every node and its value.
    """
    if dtype is not None:
        method = Program("", {"forward": method}).to(dtype).methods["forward"]
    tensors = iter(method.flat_inputs() if inputs is None else inputs)
    flat = [_cast(next(tensors), dtype) if isinstance(leaf, Tensor) else leaf for leaf in method.leaves()]
    runner = _OnCopies(method, _initial(method, state), watch)
    with torch.no_grad():
        returned = runner.run(*flat, enable_io_processing=False)
    outputs = tuple(value for value in pytree.tree_leaves(returned) if isinstance(value, Tensor))
    return Result(outputs, runner.final)


class Paused(_OnCopies):
    """A call of a method whose nodes are run as asked for, in graph order; the Program's state is not touched.

    Args:
        method: what to run.
        inputs: flat tensors in placeholder order.
        state: start from this state instead of the captured one.
    """

    def __init__(self, method: Method, inputs: Sequence[Any], state: dict[str, Tensor] | None = None) -> None:
        super().__init__(method, _initial(method, state), None)
        tensors = iter(inputs)
        self.args_iter = iter([next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in method.leaves()])

    def advance(self, node: Node) -> None:
        """Run the next node, and forget what only it and nodes before it read."""
        self.again(node)
        for dead in self.user_to_last_uses.get(node, []):
            del self.env[dead]

    def again(self, node: Node) -> None:
        """Run a node that has run before, for its inputs have changed; all of them must still be known."""
        with torch.no_grad():
            self.env[node] = self.run_node(node)


def _initial(method: Method, state: dict[str, Tensor] | None) -> dict[str, Tensor]:
    return {name: tensor_at(method.graph, name).clone() for name in state_writes(method.graph)} | (state or {})


def play(program: Program, script: Iterable[Step], watch: Watch | None = None) -> Iterator[Result]:
    """Results of consecutive calls, the first from the captured state; each result's state is what its call wrote."""
    state: dict[str, Tensor] = {}
    for step in script:
        method = program.methods[step.method]
        before = {name: state[name] for name in used_tensors(method.graph) if name in state}
        told = partial(watch, step.method) if watch is not None else None
        result = execute(method, step.inputs, state=before, watch=told)
        written = {name: result.state[name] for name in method.mutated()}
        state |= written
        yield Result(result.outputs, written)


def relative_error(actual: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Largest ``max|a - b| / max|b|`` over pairs, in float64; infinite where shapes, NaNs or infinities differ.

    A reference that is zero everywhere is compared absolutely.
    """
    if len(actual) != len(reference):
        return float("inf")
    return max((_error(a, b) for a, b in zip(actual, reference, strict=True)), default=0.0)


def _error(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    a, b = a.detach().cpu().to(torch.float64), b.detach().cpu().to(torch.float64)
    finite = torch.isfinite(b)
    if not torch.equal(torch.isfinite(a), finite) or not torch.equal(a[~finite].nan_to_num(), b[~finite].nan_to_num()):
        return float("inf")
    a, b = a[finite], b[finite]
    if b.numel() == 0:
        return 0.0
    scale = b.abs().max().item()
    return (a - b).abs().max().item() / (scale or 1.0)


def compare(actual: Result, reference: Result) -> tuple[float, str]:
    """The largest relative error over outputs and final state, and the name of the tensor that has it."""
    known = Result(reference.outputs, unmerged(reference.state, actual.state.keys()))
    mine, theirs = actual.tensors(), known.tensors()
    if mine.keys() != theirs.keys():
        return float("inf"), f"{sorted(mine.keys() ^ theirs.keys())}"
    errors = {name: relative_error([mine[name]], [theirs[name]]) for name in theirs}
    worst = max(errors, key=lambda name: errors[name], default="")
    return errors.get(worst, 0.0), worst


def unmerged(state: dict[str, Tensor], kept: Collection[str]) -> dict[str, Tensor]:
    """``state`` without the buffers that a rewrite merged into others.

    Such a buffer is not kept, and equals one that is, bit by bit. Zeros do not count: a lost write leaves them, too.
    """

    def merged(name: str) -> bool:
        value = state[name]
        others = (state[other] for other in kept if other in state)
        return bool((value != 0).any()) and any(
            other.dtype == value.dtype and torch.equal(other, value) for other in others
        )

    return {name: tensor for name, tensor in state.items() if name in kept or not merged(name)}


class Proof:
    """Reference results of an original Program, against which every rewritten form of it is held.

    Args:
        original: the Program before any rewrite.
    """

    def __init__(self, original: Program) -> None:
        self.runs = brief(original)
        self.reference = [list(play(original, run)) for run in self.runs]
        self.dtype = _floating(original)

    def check(self, program: Program, by: str, budget: float | None = None) -> float:
        """The error of ``program`` against the original.

        Args:
            program: the rewritten form.
            by: who rewrote it (``pass reparameterise, rule fold_batch_norm``), for the message.
            budget: the error a lossy pass declares; rounding of the precision by default.

        Raises:
            ParityError: the error is above the tolerance; the message names the rewriter and the error.
        """
        tolerance = budget if budget is not None else TOLERANCE[self.dtype]
        error, where = 0.0, ""
        for run, references in zip(self.runs, self.reference, strict=True):
            for step, found, reference in zip(run, play(program, run), references, strict=True):
                step_error, tensor = compare(found, reference)
                if not step_error <= error:
                    error, where = step_error, f"{step.method}, {tensor}"
        if not error <= tolerance:
            short = str(self.dtype).removeprefix("torch.")
            raise ParityError(
                by,
                f"changed what the model computes: relative error {error:.2e} at {where} in {short}, "
                f"allowed {tolerance:.0e}",
                "correct the rewrite, or leave the pass out of the pipeline",
            )
        return error


def _floating(program: Program) -> torch.dtype:
    for tensor in [*program.tensors().values(), *(v for m in program.methods.values() for v in m.flat_inputs())]:
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.float32


def _cast(value: Any, dtype: torch.dtype | None) -> Any:
    return value.to(dtype) if dtype is not None and isinstance(value, Tensor) and value.is_floating_point() else value
