"""Evaluation functions: what they are given, and what they may do wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.errors import AccuracyError, CaptureError, EvaluationError
from hycompile.evaluation import Evaluation, ProgramRun, Run, load_evaluation
from hycompile.program import Program
from tests.passes.quantise.models import hybrid, samples


class _Counter(nn.Module):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(x)
        return self.seen * 1

    def read(self, x: Tensor) -> Tensor:
        return self.seen - x


def _counter() -> Program:
    calls = {"forward": hy.Call((torch.ones(2),)), "read": hy.Call((torch.ones(2),), function="read")}
    return hy.capture(_Counter().eval(), methods=calls)


def test_a_run_keeps_state_between_methods_until_it_is_restarted() -> None:
    program = _counter()
    run = ProgramRun(program)
    assert run(torch.ones(2))[0].tolist() == [1, 1]
    assert run(torch.ones(2))[0].tolist() == [2, 2]
    assert run(torch.zeros(2), method="read")[0].tolist() == [2, 2]
    run.restart()
    assert run(torch.zeros(2), method="read")[0].tolist() == [0, 0]
    assert program.methods["forward"].graph.get_buffer("seen").tolist() == [0, 0]


def test_inputs_that_do_not_fit_are_said_with_the_function() -> None:
    with pytest.raises(CaptureError, match=r"input 'x': is float32\[3\], the method takes float32\[2\]"):
        ProgramRun(_counter())(torch.ones(3))
    with pytest.raises(EvaluationError, match=r"raised CaptureError: .*is float32\[3\], the method takes"):
        Evaluation("wide", lambda run: float(run(torch.ones(3))[0].sum())).score("it", ProgramRun(_counter()))


@pytest.mark.parametrize("value", [50, 50.0, np.float32(50), torch.tensor(50.0), np.array(50.0)])
def test_numbers(value: Any) -> None:
    assert Evaluation("given", lambda run: value).score("it", ProgramRun(_counter())) == 50.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "97", True, [1.0, 2.0], torch.zeros(2)])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(EvaluationError, match=r"function 'given' on it: returned .*; return a finite number"):
        Evaluation("given", lambda run: value).score("it", ProgramRun(_counter()))


def _fails(run: Run) -> float:
    return _deeper({})


def _deeper(table: dict[str, float]) -> float:
    return table["accuracy"]


def test_what_it_raises_is_told_with_its_place_and_cause() -> None:
    with pytest.raises(EvaluationError) as caught:
        Evaluation("fails", _fails).score("the float model", ProgramRun(_counter()))
    told = r"on the float model: raised KeyError: 'accuracy' \(test_evaluation.py:\d+ in _deeper\)"
    assert caught.match(told)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.exit_code == 9


def test_a_function_without_an_argument() -> None:
    with pytest.raises(EvaluationError, match=r"raised TypeError: .*takes 0 positional arguments"):
        Evaluation("none", lambda: 1.0).score("it", ProgramRun(_counter()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere:top1", "cannot be imported .ModuleNotFoundError: No module named 'nowhere'"),
        ("broken:top1", "cannot be imported .ZeroDivisionError: division by zero"),
        ("works:top5", "cannot be imported .AttributeError: module 'works' has no attribute 'top5'"),
        ("works", "cannot be imported"),
        (":top1", "cannot be imported .ValueError: Empty module name"),
        ("works:number", "is a int, no function"),
    ],
)
def test_what_cannot_be_imported(source: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "works.py").write_text("number = 3\n\n\ndef top1(run):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_evaluation("works:top1")(None) == 1.0  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match=f"evaluation function {source!r}: {told}.*importable from here|{told}"):
        load_evaluation(source)
    sys.modules.pop("works", None)


def test_the_budget_is_held_with_the_layers_to_blame() -> None:
    scores = iter((90.0, 88.0))
    with pytest.raises(AccuracyError) as caught:
        hy.quantise(hybrid(), samples(), evaluate=lambda run: next(scores), max_drop=1.5)
    told = (
        r"the quantised model: scores 88.00 by <lambda>, 2.00 below the float model's 90.00, allowed 1.50; layers to "
    )
    assert caught.match(told + r"blame: \w+ \(\d+\.\d dB if it alone is rounded\), \w+ .*; keep layers in float")
    assert caught.value.exit_code == 5


def test_a_drop_as_large_as_the_budget_holds() -> None:
    scores = iter((90.0, 88.5))
    quantised, _ = hy.quantise(hybrid(), samples(), evaluate=lambda run: next(scores), max_drop=1.5)
    assert quantised.plan is not None


def test_without_a_budget_the_score_is_only_taken() -> None:
    scores = iter((90.0, 10.0))
    quantised, _ = hy.quantise(hybrid(), samples(), evaluate=lambda run: next(scores))
    assert quantised.plan is not None
    assert quantised.plan.sensitivity is None
    assert next(scores, None) is None
