"""Artifacts of quantised Programs: the plan's numbers on every runtime that runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hycompile as hy
from hycompile.artifact import Artifact
from hycompile.backends.onnx import Onnx
from hycompile.cache import Cache
from hycompile.device import open_session
from hycompile.errors import ParityError, Unsupported
from hycompile.models.small_vision.family import family, sample
from hycompile.models.vision_data.dataset import network_input
from hycompile.parity import execute
from hycompile.program import Program
from hycompile.quantisation.calibration import calibration
from hycompile.quantisation.converts import converts
from hycompile.quantisation.int8 import as_int8
from hycompile.quantisation.prove import prove_quantised, require_simulation
from tests.passes.quantise.models import between, hybrid, images, samples

RUNTIMES = ("onnx", "executorch", "coreml", "tvm")
PIPELINES = {
    "eight bits": "quantise",
    "four and six bits": "quantise{bits=4,activation_bits=6,min_sqnr=0.0}",
    "symmetric, one scale": "quantise{activations=symmetric,weights=tensor}",
    "weights alone": "quantise{bits=4,activation_bits=0,min_sqnr=0.0}",
    "inputs alone": "quantise{outputs=false}",
}


_EVERY = {*PIPELINES, "trained"}
# Compiling takes seconds there, and other tests of these two see the rest of the forms.
_QUICK = {"onnx": _EVERY, "executorch": set(PIPELINES), "coreml": {"four and six bits"}, "tvm": {"four and six bits"}}


def _cases(*names: str) -> list[Any]:
    """Runtimes with what is lowered to them; the slow ones of these pairs as such."""
    pairs = [(runtime, name) for runtime in RUNTIMES for name in names]
    return [pytest.param(*pair, marks=[] if pair[1] in _QUICK[pair[0]] else pytest.mark.slow) for pair in pairs]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("quantised"))


def _quantised(text: str) -> Program:
    return hy.quantise(hybrid(), samples(16), text)[0]


@pytest.mark.parametrize(("runtime", "pipeline"), _cases(*PIPELINES))
def test_artifact_computes_the_simulation(runtime: str, pipeline: str, cache: Cache) -> None:
    program = _quantised(PIPELINES[pipeline])
    artifact = hy.lower(program, "host", runtime, cache=cache)
    proof = prove_quantised(open_session(artifact), program, hybrid())
    require_simulation(runtime, proof, "")
    assert proof.artifact.output_sqnr > 40


@pytest.mark.parametrize("options", ["", "bits=4,activation_bits=6,min_sqnr=0.0,"])
# TVM's vectoriser refuses a sigmoid whose rounded result is concatenated.
@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "tvm"])
def test_operators_between_layers_compute_the_simulation(runtime: str, options: str, cache: Cache) -> None:
    program = hy.quantise(between(), images(16), f"quantise{{{options}between=whole}}")[0]
    artifact = hy.lower(program, "host", runtime, cache=cache)
    proof = prove_quantised(open_session(artifact), program, between())
    require_simulation(runtime, proof, "")
    assert proof.artifact.output_sqnr > 40


def test_executorch_converts_what_the_report_counts_and_moves_whole_numbers(cache: Cache) -> None:
    program = hy.quantise(between(), images(), "quantise{between=whole}")[0]
    artifact = hy.lower(program, "host", "executorch", cache=cache)
    facts = artifact.manifest.facts
    assert (facts["delegates"], facts["outside"]) == (1, {})
    kinds = {time.operator: time.calls for time in open_session(artifact).profile(images(1), runs=1) or ()}
    changed = {name: count for name, count in kinds.items() if name.startswith("Convert")}
    assert sum(changed.values()) == sum(count for _, count in converts(program)), kinds


def test_onnx_file_holds_the_nodes_and_int8_weights(cache: Cache) -> None:
    artifact = hy.lower(_quantised("quantise"), "host", "onnx", cache=cache)
    operators = artifact.manifest.facts["operators"]
    assert isinstance(operators, dict)
    assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (8, 13)
    assert artifact.target.precision == "int8"


def test_executorch_delegates_everything(cache: Cache) -> None:
    facts = hy.lower(_quantised("quantise"), "host", "executorch", cache=cache).manifest.facts
    assert facts["delegated_share"] == 1.0


@pytest.mark.parametrize(("runtime", "what"), _cases("trained"))
def test_trained_hybrid_agrees_on_200_images(
    runtime: str, what: str, request: pytest.FixtureRequest, cache: Cache
) -> None:
    program, quantised, images = request.getfixturevalue(what)
    artifact = hy.lower(quantised, "host", runtime, cache=cache)
    seen = replace(quantised, calibration=calibration(program, images))
    proof = prove_quantised(open_session(artifact), seen, program)
    require_simulation(runtime, proof, "")
    assert proof.artifact.calls == 10
    assert proof.artifact.agreement >= 99.5
    assert proof.simulation.agreement >= 95.0


@pytest.fixture(scope="module")
def trained() -> tuple[Program, Program, list[Tensor]]:
    """A small EfficientFormer, the same quantised on half of the images, and these in batches of 20."""
    network = family.build("small-vision/efficientformer-fashion-mnist").module
    images = network_input(sample("fashion-mnist").images)
    each = list(torch.cat((images, images.flip(-1))).split(20))
    program = hy.capture(network, (each[0],))
    program, _ = hy.Pipeline.parse("normalise,reparameterise,fuse-conv-attention")(program, prove=False)
    return program, hy.quantise(program, each[::2])[0], each


class _Session:
    """An artifact that computes another Program."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        return execute(self._program.methods[method], inputs).outputs

    def state(self) -> None:
        return None

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> None:
        return None


@pytest.mark.parametrize("other", ["quantise{weights=tensor}", "quantise{outputs=false}", "quantise{observer=mse}"])
def test_artifact_of_another_plan_is_caught(other: str) -> None:
    """As far from the float model as the plan is, but not where the plan says."""
    program = _quantised("quantise")
    proof = prove_quantised(_Session(_quantised(other)), program, hybrid())
    with pytest.raises(ParityError, match=r"computes something else than the quantised model.*6 dB above"):
        require_simulation("it", proof, "")


def test_float_model_is_no_artifact_of_the_plan() -> None:
    program = _quantised("quantise")
    with pytest.raises(ParityError, match="something else"):
        require_simulation("it", prove_quantised(_Session(hybrid()), program, hybrid()), "")
    require_simulation("it", prove_quantised(_Session(program), program, hybrid()), "")


def test_narrow_grids_are_clamped_before_int8() -> None:
    program = _quantised("quantise{bits=4,activation_bits=3,min_sqnr=-20.0}")
    wide = program.copy()
    assert as_int8(wide.methods["forward"].graph) == 8
    assert "quant_min=-4" not in wide.text()
    for given in (samples(1)[0], 100 * samples(1)[0]):
        one, other = (execute(each.methods["forward"], (given,)).outputs[0] for each in (program, wide))
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_backend_without_int8_refuses(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Onnx, "precisions", ("fp32", "fp16"))
    with pytest.raises(Unsupported, match="backend 'onnx': does not offer int8; it offers fp32, fp16"):
        hy.lower(_quantised("quantise"), "host", "onnx", cache=cache)


def test_precision_and_program_must_fit(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="at fp32: is quantised"):
        hy.lower(_quantised("quantise"), "host", "onnx", precision="fp32", cache=Cache(tmp_path))
    with pytest.raises(Unsupported, match="at int8: is not quantised; add quantise"):
        hy.lower(hybrid(), "host", "onnx", precision="int8", cache=Cache(tmp_path))


def test_plan_is_no_part_of_the_artifact_but_the_grids_are(cache: Cache) -> None:
    def digest(program: Program) -> str:
        artifact: Artifact = hy.lower(program, "host", "onnx", cache=cache)
        return artifact.digest

    program = _quantised("quantise")
    assert digest(program) == digest(replace(program, plan=None, calibration=()))
    assert digest(program) != digest(_quantised("quantise{observer=mse}"))
