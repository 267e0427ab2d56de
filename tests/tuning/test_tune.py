"""Tuning a toy: real builds and proofs, made-up times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hycompile.cache import Cache
from hycompile.compile import Request as BuildRequest
from hycompile.compile import build
from hycompile.errors import CaptureError, ParityError, Unsupported
from hycompile.measure.compare import Ratio
from hycompile.measure.sampling import Plan, Samples
from hycompile.tuning import tune as module
from hycompile.tuning.recipe import Recipe
from hycompile.tuning.tune import Request, tune

TOY = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.GELU()).eval(), (torch.randn(1, 16, 8, 8),)
"""
PLAN = Plan(runs=6, min_runs=6, max_seconds=0.5, max_warm_up_seconds=0.2)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "tunable.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    return "tunable:make"


def _ratio(value: float) -> Callable[..., Ratio]:
    def samples(ms: float) -> Samples:
        return Samples((ms,) * 6, (ms,) * 6, 0, 1, True)

    def ratio(first: object, second: object, names: tuple[str, str], plan: Plan) -> Ratio:
        return Ratio(names[0], names[1], samples(value), samples(1.0), plan.threads)

    return ratio


def _tuned(toy: str, cache: Cache, runtime: str = "executorch", **options: Any) -> Recipe:
    return tune(Request(toy, "host", runtime, plan=PLAN), cache=cache, **options)


def test_the_faster_form_is_taken_and_the_recipe_replays_it(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, kept = Cache(tmp_path / "cache"), list[Recipe]()
    monkeypatch.setattr(module, "compare", _ratio(0.5))
    recipe = _tuned(toy, cache, keep=kept.append)
    by_choice = {(trial.choice, trial.value): trial for trial in recipe.trials}
    taken = by_choice["executorch.convolutions", "whole"]
    assert (taken.instead_of, taken.outcome, taken.measured and taken.measured.ratio) == ("rows", "taken", 0.5)
    # No attention and nothing to move: the passes' options lead to the same file.
    assert {trial.outcome for key, trial in by_choice.items() if key[0] != "executorch.convolutions"} == {"same"}
    assert recipe.options == {"convolutions": "whole"}
    assert recipe.evidence.measured is not None
    assert [len(one.trials) for one in kept] == [1, 2, 3, 4, 4]

    (row,) = build(BuildRequest(toy, "host", recipe=recipe), cache=cache).runtimes
    assert (row.runtime, row.status, row.cached) == ("executorch", "proved", True)


@pytest.mark.parametrize("ratio", [0.995, 1.5])
def test_what_is_not_faster_by_the_margin_is_left(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    monkeypatch.setattr(module, "compare", _ratio(ratio))
    recipe = _tuned(toy, Cache(tmp_path / "cache"))
    assert recipe.options == {"convolutions": "rows"}
    assert recipe.evidence.measured is None
    assert {trial.outcome for trial in recipe.trials} == {"left", "same"}


def test_a_candidate_that_computes_something_else_is_a_failed_trial(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([0.0, 1.0])
    monkeypatch.setattr(module, "prove", lambda session, original: next(errors))
    recipe = _tuned(toy, Cache(tmp_path / "cache"))
    failed = [trial for trial in recipe.trials if trial.outcome == "failed"]
    assert [trial.choice for trial in failed] == ["executorch.convolutions"]
    assert "relative error 1.00e+00" in failed[0].reason
    assert recipe.options == {"convolutions": "rows"}


def test_a_wrong_candidate_stays_wrong_when_the_cache_holds_it(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        monkeypatch.setattr(module, "prove", lambda session, original: 1.0)
        with pytest.raises(ParityError, match="computes something else"):
            _tuned(toy, cache)


def test_real_times_give_a_whole_recipe(toy: str, tmp_path: Path) -> None:
    said: list[str] = []
    recipe = _tuned(toy, Cache(tmp_path / "cache"), "onnx", progress=said.append)
    (trial,) = [trial for trial in recipe.trials if trial.choice == "onnx.opset"]
    assert (trial.value, trial.instead_of) == (18, 20)
    assert trial.measured is not None
    low, high = trial.measured.interval
    assert 0 < low <= trial.measured.ratio <= high
    assert "trying onnx.opset=18 instead of 20" in said


def test_int8_is_tuned_on_calibration_data(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, samples = Cache(tmp_path / "cache"), tmp_path / "samples"
    samples.mkdir()
    for number in range(3):
        np.save(samples / f"{number}.npy", np.random.default_rng(number).normal(size=(1, 16, 8, 8)).astype(np.float32))
    monkeypatch.setattr(module, "compare", _ratio(1.5))
    recipe = tune(Request(toy, "host", "onnx", "int8", PLAN, samples), cache=cache)
    assert (recipe.precision, recipe.pipeline.endswith(",quantise")) == ("int8", True)
    assert "failed" not in {trial.outcome for trial in recipe.trials}
    recipe.save(tmp_path / "recipe.toml")
    assert "--recipe recipe.toml --calibration DIR" in (tmp_path / "recipe.toml").read_text()
    (row,) = build(BuildRequest(toy, "host", recipe=recipe, calibration=samples), cache=cache).runtimes
    assert (row.status, row.precision, row.cached) == ("proved", "int8", True)
    with pytest.raises(CaptureError, match="needs calibration data"):
        tune(Request(toy, "host", "onnx", "int8", PLAN), cache=cache)


@pytest.mark.parametrize(
    ("device", "runtime", "message"),
    [("host", "coreml", "built, not run: only a reference interpreter"), ("jetson-orin-nano", "tensorrt", "tensorrt")],
)
def test_what_cannot_be_timed_here_is_refused(toy: str, device: str, runtime: str, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        tune(Request(toy, device, runtime))
