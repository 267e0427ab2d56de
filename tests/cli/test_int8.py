"""``hycompile build --precision int8``: from a folder of samples to proved artifacts, or to one error."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hycompile as hy
from hycompile.quantisation.plan import QuantPlan
from tests.passes.quantise.models import hybrid
from tests.passes.quantise.models import samples as hybrid_samples


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder, generator = tmp_path / "samples", np.random.default_rng(0)
    folder.mkdir()
    for number in range(8):
        np.save(folder / f"{number}.npy", generator.standard_normal((1, 3, 16, 16)).astype(np.float32))
    return folder


def _build(*more: str) -> tuple[str, ...]:
    return ("build", "toy_hybrid:make", "--device", "host", "--runtime", "onnx", "--no-measure", *more)


@pytest.mark.usefixtures("toy")
def test_builds_proves_and_tells(cli: Callable[..., Any], samples: Path) -> None:
    ran = cli(*_build("--precision", "int8", "--calibration", str(samples), "--json"))
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["pipeline"]["pipeline"].endswith(",quantise")
    told, (row,) = document["quantisation"], document["runtimes"]
    assert (row["status"], row["precision"]) == ("proved", "int8")
    assert row["quantised"]["artifact to simulation"]["agreement"] == 100.0
    assert told["calls"] == 8
    assert len(told["layers"]) == 5
    assert told["layers"][-1][1] == "linear_1"
    assert ["quantise: an input of the model", 1] in told["converts"]
    plan = QuantPlan.model_validate_json(Path(told["plan"]).read_text())
    assert plan.values[0].bits == 8
    page = Path(document["report"]).read_text()
    assert "signal-to-noise ratio at its output" in page
    assert "8 calls, no labels" in page


@pytest.mark.usefixtures("toy")
def test_a_pipeline_that_quantises_is_int8_and_the_terminal_says_what_it_cost(
    cli: Callable[..., Any], samples: Path
) -> None:
    ran = cli(*_build("--pipeline", "normalise,quantise{bits=6}", "--calibration", str(samples)))
    assert ran.code == 0, ran.err
    told = " ".join(ran.out.split())
    assert "onnx proved" in told
    assert "3 weights of 6 bits" in told
    assert "on the calibration set (8 calls, no labels)" in told
    assert "lowest ratios:" in told
    assert "converts left:" in told


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--precision", "int8"), 3, "needs calibration data"),
        (("--calibration", "samples"), 3, "has no use at fp32"),
        (("--precision", "int8", "--calibration", "nowhere"), 3, "is no folder"),
        (("--pipeline", "normalise,quantise{min_sqnr=90.0}", "--calibration", "samples"), 5, "budget 90.0 dB"),
    ],
)
def test_one_error_and_no_artifact(
    cli: Callable[..., Any], samples: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ran = cli(*_build(*arguments))
    assert ran.code == code
    assert told in " ".join(ran.err.split())
    assert not (samples.parent / "hycompile-out").exists()
    assert not list((samples.parent / "cache").rglob("model.onnx"))


@pytest.mark.usefixtures("toy")
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_tensorrt_gets_a_plan_without_zero_points_where_it_comes_first(cli: Callable[..., Any], samples: Path) -> None:
    asked = ("build", "toy_hybrid:make", "--no-measure", "--precision", "int8", "--calibration", str(samples))
    ran = cli(*asked, "--device", "rtx-4090", "--runtime", "tensorrt", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["pipeline"]["pipeline"].endswith(",quantise{activations=symmetric}")
    (row,) = ran.document["runtimes"]
    assert row["status"] == "built"
    ran = cli(*asked, "--device", "rtx-4090", "--runtime", "tensorrt", "--pipeline", "normalise,quantise")
    assert ran.code == 6
    told = " ".join(ran.err.split())
    assert "TensorRT takes symmetric grids only" in told
    assert "quantise them with quantise{activations=symmetric}" in told


def test_a_saved_quantised_program_is_built_as_it_is(cli: Callable[..., Any], tmp_path: Path) -> None:
    quantised, _ = hy.quantise(hybrid(), hybrid_samples(), "quantise{bits=6}")
    quantised.save(tmp_path / "quantised.hyc")
    ran = cli("build", "quantised.hyc", "--device", "host", "--runtime", "onnx", "--no-measure", "--json")
    assert ran.code == 0, ran.err
    (row,) = ran.document["runtimes"]
    assert (row["status"], row["precision"], ran.document["pipeline"]["pipeline"]) == ("proved", "int8", "")
    assert quantised.plan is not None
    assert quantised.plan.measured is not None
    told = row["quantised"]["simulation to float"]["output_sqnr"]
    assert told == pytest.approx(quantised.plan.measured.output_sqnr, abs=1e-3)
    refused = cli("build", "quantised.hyc", "--device", "host", "--runtime", "onnx", "--precision", "fp32")
    assert refused.code == 6
    assert "is quantised: it holds whole numbers" in " ".join(refused.err.split())
