"""Our contender in the language benchmark: what it compiles, how it quantises, and SambaY without its shared memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.language import subjects
from benchmarks.language.builds import Build
from benchmarks.language.ours import HycompileSession, pipeline
from benchmarks.language.prepare import STEPS, known, open_session, prepare, prompt
from benchmarks.language.recompute import recompute_memory
from hycompile.attributes import used_tensors
from hycompile.errors import ArtifactError
from hycompile.models.language.decoder import Decoder
from hycompile.models.language.family import build_plan
from hycompile.models.language.layouts import sambay
from hycompile.models.language.plan import Plan
from hycompile.parity import relative_error
from hycompile.pipeline import Pipeline
from hycompile.program import Step

TINY = Build(model="causal-lm/lfm2-tiny", runtime="onnx", modes=("prefill", "decode"), prompt=8, context=16)


@pytest.mark.parametrize(("weights", "bits"), [("int4", 4), ("int8", 8)])
def test_matrices_are_quantised_once_for_both_methods(weights: Any, bits: int, tmp_path: Path) -> None:
    build = TINY.model_copy(update={"runtime": "executorch", "weights": weights})
    (step,) = Pipeline.parse(pipeline(build)).passes[-1:]
    program = subjects.program(build)
    program.calibration = tuple(Step(name, tuple(method.flat_inputs())) for name, method in program.methods.items())
    step.run(program, lambda program, report: None)
    whole = [
        [tensor for tensor in used_tensors(method.graph).values() if tensor.dtype == torch.int8]
        for method in program.methods.values()
    ]
    prefill, decode = ({tensor.data_ptr() for tensor in tensors} for tensors in whole)
    assert prefill
    assert prefill == decode
    assert max(int(tensor.abs().max()) for tensor in whole[0]) == 2 ** (bits - 1) - 1


def test_recomputing_the_memory_is_the_same_function_for_more_work() -> None:
    plan = Plan(sambay(12), window=8, norm="layer", rotary=False)
    shared, apart = (build_plan(plan).module for _ in range(2))
    assert isinstance(shared, Decoder)
    assert isinstance(apart, Decoder)
    recompute_memory(apart)
    more = 0
    for at, token in enumerate((3, 7, 5)):
        wanted, work = counted(shared, token, at)
        found, again = counted(apart, token, at)
        assert torch.equal(found, wanted)
        more = again - work
    # Two readers: three projections before the readout, and the one behind it, which only eager computes in vain.
    projections = plan.width * 2 + plan.rank + 2 * plan.states + plan.rank + plan.width
    assert more == 2 * 2 * plan.inner * projections


def counted(model: Decoder, token: int, position: int) -> tuple[Tensor, int]:
    """A token's logits, and the floating-point operations of linears it took."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = model.decode(torch.tensor([[token]]), torch.tensor([position]))
    operators: dict[Any, int] = counter.get_flop_counts()["Global"]
    return logits, operators[torch.ops.aten.mm] + operators[torch.ops.aten.addmm]


def test_a_reader_changes_the_plan_and_nothing_else() -> None:
    build = Build(model="language/sambay-tiny", runtime="executorch", modes=("decode",), prompt=4, context=8)
    tokens = prompt(build, 4)
    gmu, again, other = (
        subjects.reference(build.model_copy(update={"reader": reader}), tokens, 3)[0]
        for reader in ("gmu", "recompute", "mamba1")
    )
    assert (gmu == again).all()
    assert (gmu != other).any()


def test_the_cut_is_one_pass() -> None:
    whole = pipeline(TINY.model_copy(update={"cut": False})).split(",")
    assert [name for name in pipeline(TINY).split(",") if name not in whole] == ["sink-slices"]


def test_prompts_are_seeded_and_grow() -> None:
    assert prompt(TINY, 20)[:8] == prompt(TINY, 8)
    assert max(prompt(TINY, 500)) == subjects.vocabulary(TINY) - 1


def test_what_cannot_be_built_is_an_outcome(tmp_path: Path) -> None:
    build = TINY.model_copy(update={"model": "causal-lm/no-such-model"})
    outcome = prepare(build, tmp_path / "build")
    assert (outcome.status, outcome.rel_err) == ("failed", None)
    assert "no-such-model" in outcome.reason
    assert known(build, tmp_path / "build") is None


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["executorch", "onnx"])
def test_artifacts_are_held_against_eager_and_kept(runtime: str, tmp_path: Path) -> None:
    build, folder = Build.model_validate(TINY.model_dump() | {"runtime": runtime}), tmp_path / "build"
    outcome = prepare(build, folder)
    assert outcome.status == "ready", outcome.reason
    assert outcome.rel_err is not None
    assert outcome.rel_err < 1e-5
    assert known(build, folder) == outcome
    assert known(build.model_copy(update={"cut": False}), folder, any_sources=True) is None
    session = open_session(build, folder, 1)
    assert isinstance(session, HycompileSession)
    assert session.state_bytes == outcome.state_bytes
    tokens = prompt(build, 6 + STEPS)
    for _ in range(2):
        # Shorter than what was compiled: the rest is padding.
        found = [session.prefill(tokens[:6]).logits, *(session.decode(token).logits for token in tokens[6:])]
        for mine, wanted in zip(found, subjects.reference(build, tokens, 5), strict=True):
            assert relative_error([torch.tensor(mine)], [torch.tensor(wanted)]) < 1e-5
        with pytest.raises(ArtifactError, match="reset first"):
            session.prefill(tokens)
        session.reset()
    with pytest.raises(ArtifactError, match="9 tokens: prefill takes 8"):
        session.prefill(tokens[:9])
    session.close()
