"""Measuring artifacts: random inputs from signatures, an artifact that runs, and those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hycompile import registry
from hycompile.artifact import Artifact, MethodSpec, TensorSpec
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.errors import ArtifactError, Unsupported
from hycompile.lowering import lower
from hycompile.measure.eager import NO_LATENCY, measure_runtime
from hycompile.measure.inputs import random_inputs
from hycompile.measure.latency import measure
from hycompile.measure.sampling import Plan
from hycompile.program import Program
from hycompile.reports import RuntimeReport

QUICK = Plan(runs=8, min_runs=6, max_seconds=0.5, max_warm_up_seconds=0.2)


class Counter(nn.Module):
    """A convolution with attention to its own running state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros(1, 4, 6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(self.conv(x))
        return self.seen.mean((2, 3))


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return capture(Counter().eval(), (torch.randn(1, 3, 8, 8),), name="counter")


@pytest.fixture(scope="module")
def artifact(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return lower(program, "host", "onnx", cache=Cache(tmp_path_factory.mktemp("cache")))


def test_inputs_follow_the_signature() -> None:
    x = TensorSpec(name="x", shape=("s0", 3), dtype="float16")
    ids = TensorSpec(name="ids", shape=(2,), dtype="int64")
    spec = MethodSpec(inputs=(x, ids), outputs=())
    floats, integers = random_inputs(spec, {"s0": 5})
    assert (floats.shape, floats.dtype) == ((5, 3), torch.float16)
    assert integers.tolist() == [0, 0]
    with pytest.raises(ArtifactError, match=r"'s0' is dynamic; give --size s0=N"):
        random_inputs(spec, {})


def test_latency_of_a_real_artifact(artifact: Artifact) -> None:
    found = measure(artifact, plan=QUICK)
    document = found.to_json()
    assert document["backend"] == "onnx"
    assert len(document["samples_ms"]) == 8
    assert document["interval_ms"][0] <= document["median_ms"] <= document["interval_ms"][1]
    assert document["median_ms"] <= document["p90_ms"] <= document["p99_ms"]
    assert document["load_ms"] > 0
    assert document["conditions"]["threads"] == 1
    assert "onnxruntime" in document["conditions"]["tools"]


def test_row_is_measured_beside_eager_and_state_is_left_alone(artifact: Artifact, program: Program) -> None:
    digest, threads = program.digest, torch.get_num_threads()
    row = RuntimeReport("onnx", "proved", "fp32")
    eager = measure_runtime(row, artifact, program, QUICK)
    assert eager is not None
    assert row.latency is not None
    assert row.ratio is not None
    assert row.ratio["second_samples_ms"] == eager["samples_ms"]
    assert any(operator == "Conv" and calls == 1 and ms > 0 for operator, calls, ms in row.profile)
    assert program.digest == digest
    assert torch.get_num_threads() == threads


class _Elsewhere:
    """A backend as far as measurement asks it anything."""

    name = "onnx"

    def __init__(self, absent: str | None = None, elsewhere: str | None = None, measurable: bool = True) -> None:
        self.absent, self.elsewhere, self.measurable = absent, elsewhere, measurable

    def missing(self, target: Any) -> str | None:
        return self.absent

    def cannot_run(self, target: Any) -> str | None:
        return self.elsewhere


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (_Elsewhere(absent="tensorrt not installed: pip install tensorrt"), "built, not run: tensorrt not installed"),
        (_Elsewhere(elsewhere="built, not run: no GPU here"), "built, not run: no GPU here"),
        (_Elsewhere(elsewhere="no GPU here"), "built, not run: no GPU here"),
        (_Elsewhere(measurable=False), "no latency: proved here by a reference interpreter"),
    ],
)
def test_what_cannot_run_here_has_no_number(
    artifact: Artifact, program: Program, backend: _Elsewhere, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "backend", lambda name: backend)
    with pytest.raises(Unsupported, match=message):
        measure(artifact, plan=QUICK)
    row = RuntimeReport("onnx", "proved", "fp32")
    assert measure_runtime(row, artifact, program, QUICK) is None
    assert row.latency is None
    assert str(row.facts[NO_LATENCY]).startswith(message)


def test_other_devices_need_a_transport(artifact: Artifact) -> None:
    with pytest.raises(Unsupported, match="no transport"):
        measure(artifact, "raspberry-pi-5", plan=QUICK)


def test_a_damaged_artifact_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    for name in ("manifest.json", *artifact.manifest.digests):
        (tmp_path / name).write_bytes((artifact.folder / name).read_bytes())
    (tmp_path / artifact.manifest.files["model"]).write_bytes(b"cut")
    with pytest.raises(ArtifactError, match="altered"):
        Artifact.load(tmp_path)
