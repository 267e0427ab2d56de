"""The search: one choice after the other, each value beside the best so far, until a whole round changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from hycompile.target import Target
from hycompile.tuning.choices import Choice
from hycompile.tuning.recipe import Trial

Verdict = Callable[[Choice, Target, Target], Trial]


def search(start: Target, choices: Sequence[Choice], judge: Verdict) -> Generator[tuple[Target, Trial]]:
    """Coordinate descent from the device file's own settings.

    Nothing is tried twice, so it ends. That finds the best combination where choices are independent, and one that no
    single change improves where they are not.

    Args:
        start: the settings to improve.
        choices: what may change.
        judge: given the choice, a candidate and the best until then, says what came of the candidate.

    Yields:
        the best settings after every trial, with the trial.
    """
    best, seen, changed = start, {_text(start)}, True
    while changed:
        changed = False
        for choice in choices:
            for value in choice.values:
                candidate = choice.write(best, value)
                if _text(candidate) in seen:
                    continue
                seen.add(_text(candidate))
                trial = judge(choice, candidate, best)
                if trial.outcome == "taken":
                    best, changed = candidate, True
                yield best, trial


def _text(target: Target) -> str:
    return target.model_dump_json()
