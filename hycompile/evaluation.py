"""How good a model is by the user's own measure, on whatever runs it, and how much of that a build may cost."""

from __future__ import annotations

import importlib
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from torch import Tensor

from hycompile.attributes import used_tensors
from hycompile.errors import EvaluationError
from hycompile.parity import execute
from hycompile.program import Program, Step
from hycompile.script import checked

if TYPE_CHECKING:
    from hycompile.backend import Session


class Run(Protocol):
    """What an evaluation function is given: the model, run by a Program or by an artifact."""

    def __call__(self, *inputs: Tensor, method: str = "forward") -> tuple[Tensor, ...]:
        """The flat outputs of one method. Inputs have the types and sizes that the model was captured with.

        State is kept from call to call.
        """
        ...

    def restart(self) -> None:
        """Put the state back to what it was when the model was captured."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """A user's measure of a model, higher being better, and the budget.

    Args:
        name: as messages call it.
        function: takes a :class:`Run`, returns a finite number, in percent if ``max_drop`` is to be percentage points.
        max_drop: by how much the number may be lower than ``reference``; None if it is only to be told.
        reference: the number of the float model.
    """

    name: str
    function: Callable[[Run], float]
    max_drop: float | None = None
    reference: float = math.nan

    def score(self, what: str, run: Run) -> float:
        """The number for what ``run`` runs.

        Raises:
            EvaluationError: the function raises, or does not return a finite number.
        """
        seen = f"evaluation function {self.name!r} on {what}"
        try:
            found = self.function(run)
        except Exception as error:
            reason = f"raised {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}{_place(error)}"
            raise EvaluationError(seen, reason, "correct it; HYCOMPILE_TRACEBACK=1 shows the traceback") from error
        try:
            number = math.nan if isinstance(found, (bool, str)) else float(found)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not math.isfinite(number):
            raise EvaluationError(seen, f"returned {_short(found)}", "return a finite number, higher being better")
        return number

    def exceeded(self, score: float) -> bool:
        """Whether a score is lower than the float model's by more than the budget."""
        return self.max_drop is not None and not self.reference - score <= self.max_drop

    def verdict(self, score: float) -> str:
        """Both scores and the budget in words, without the subject."""
        drop = f"scores {score:.2f} by {self.name}, {self.reference - score:.2f} below the float model's"
        budget = "" if self.max_drop is None else f", allowed {self.max_drop:.2f}"
        return f"{drop} {self.reference:.2f}{budget}"


def load_evaluation(source: str) -> Callable[[Run], float]:
    """The function that ``package.module:function`` names.

    Raises:
        EvaluationError: it cannot be imported, or is no function.
    """
    path, _, name = source.partition(":")
    seen, way_out = f"evaluation function {source!r}", "give package.module:function, importable from here"
    try:
        found = getattr(importlib.import_module(path), name)
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        raise EvaluationError(seen, f"cannot be imported ({type(error).__name__}: {text})", way_out) from error
    if not callable(found):
        raise EvaluationError(seen, f"is a {type(found).__name__}, no function", way_out)
    return cast("Callable[[Run], float]", found)


@dataclass
class ProgramRun:
    """Runs a Program as evaluation functions want it; the Program's own state stays as it is."""

    program: Program
    state: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __call__(self, *inputs: Tensor, method: str = "forward") -> tuple[Tensor, ...]:
        (step,) = checked((Step(method, inputs),), self.program.methods)
        called = self.program.methods[method]
        before = {name: self.state[name] for name in used_tensors(called.graph) if name in self.state}
        result = execute(called, step.inputs, state=before)
        self.state |= {name: result.state[name] for name in called.mutated()}
        return result.outputs

    def restart(self) -> None:
        self.state.clear()


@dataclass
class ArtifactRun:
    """Runs an artifact as evaluation functions want it.

    Args:
        program: what it was lowered from; says which inputs fit.
        open: opens a session anew.
    """

    program: Program
    open: Callable[[], Session]
    session: Session | None = None

    def __call__(self, *inputs: Tensor, method: str = "forward") -> tuple[Tensor, ...]:
        (step,) = checked((Step(method, inputs),), self.program.methods)
        if self.session is None:
            self.session = self.open()
        return self.session.run(step.inputs, method)

    def restart(self) -> None:
        self.session = None


def _place(error: BaseException) -> str:
    """The last line of the function's own file that the traceback shows."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    if not own:
        return ""
    return f" ({own[-1].filename.replace(chr(92), '/').rpartition('/')[2]}:{own[-1].lineno} in {own[-1].name})"


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."
