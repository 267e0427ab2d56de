"""The search on made-up times: what it takes, what it leaves, and that it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hycompile.device import load_target
from hycompile.target import Target
from hycompile.tuning.choices import Choice, RuntimeChoice, choices_for
from hycompile.tuning.recipe import Trial
from hycompile.tuning.search import search

START = load_target("host").model_copy(update={"pipeline": "normalise,fuse-conv-attention,layout"})
CHOICES = choices_for(START, "executorch")


def _settings(target: Target) -> dict[str, object]:
    return {choice.name: choice.read(target) for choice in CHOICES}


def _judge(time: Callable[[dict[str, object]], float], asked: list[dict[str, object]]) -> Callable[..., Trial]:
    def judge(choice: Choice, candidate: Target, best: Target) -> Trial:
        asked.append(_settings(candidate))
        outcome = "taken" if time(_settings(candidate)) < time(_settings(best)) else "left"
        return Trial(choice=choice.name, value=choice.read(candidate), instead_of=choice.read(best), outcome=outcome)

    return judge


def test_choices_are_the_runtimes_then_the_passes() -> None:
    assert [(choice.name, choice.values) for choice in CHOICES] == [
        ("executorch.convolutions", ("whole", "rows")),
        ("fuse-conv-attention.qkv", ("split", "keep")),
        ("layout.target", ("generic", "coreml", "xnnpack")),
    ]
    assert [choice.name for choice in choices_for(START.model_copy(update={"pipeline": "normalise"}), "onnx")] == [
        "onnx.opset"
    ]
    assert choices_for(START.model_copy(update={"pipeline": "normalise"}), "tvm") == []


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_a_choice_reads_what_it_wrote_and_changes_nothing_else(choice: Choice) -> None:
    for value in choice.values:
        written = choice.write(START, value)
        assert choice.read(written) == value
        assert choice.write(written, choice.read(START)) == START
        others = {name: found for name, found in _settings(written).items() if name != choice.name}
        assert others.items() <= _settings(START).items()


def test_every_occurrence_of_a_pass_is_changed() -> None:
    twice = START.model_copy(update={"pipeline": "layout,normalise,layout"})
    (choice,) = [choice for choice in choices_for(twice, "tvm") if choice.name == "layout.target"]
    assert choice.write(twice, "xnnpack").pipeline == "layout{target=xnnpack},normalise,layout{target=xnnpack}"


def test_independent_choices_are_all_found() -> None:
    def time(settings: dict[str, object]) -> float:
        gains = {"whole": 1, "keep": 2, "xnnpack": 4, "coreml": 3}
        return -sum(gains.get(str(value), 0) for value in settings.values())

    steps = list(search(START, CHOICES, _judge(time, [])))
    assert list(_settings(steps[-1][0]).values()) == ["whole", "keep", "xnnpack"]
    assert sum(trial.outcome == "taken" for _, trial in steps) >= 3


def test_a_choice_that_pays_only_after_another_is_found_in_a_second_round() -> None:
    def time(settings: dict[str, object]) -> float:
        kept = settings["fuse-conv-attention.qkv"] == "keep"
        whole = settings["executorch.convolutions"] == "whole"
        return 10.0 - kept - (2 if kept and whole else -2 if whole else 0)

    *_, (best, _) = search(START, CHOICES, _judge(time, []))
    assert (_settings(best)["executorch.convolutions"], _settings(best)["fuse-conv-attention.qkv"]) == ("whole", "keep")


def test_nothing_is_tried_twice_and_nothing_gained_changes_nothing() -> None:
    asked: list[dict[str, object]] = []
    targets = [best for best, _ in search(START, CHOICES, _judge(lambda settings: 1.0, asked))]
    assert targets == [START] * 4
    assert len({tuple(settings.items()) for settings in asked}) == len(asked) == 4


def test_no_choices_no_trials() -> None:
    assert list(search(START, [], _judge(lambda settings: 1.0, []))) == []
    assert list(search(START, [RuntimeChoice("onnx", "opset", (20,))], _judge(lambda settings: 1.0, []))) == []
