"""What a compiled prompt costs: the linears that the cut leaves, and graphs that do not grow with the prompt."""

from __future__ import annotations

import pytest
import torch

from hycompile.capture import capture
from hycompile.macs import macs
from hycompile.models.language.decoder import Decoder
from hycompile.models.language.family import calls
from hycompile.models.language.presets import PLANS
from hycompile.pipeline import Pipeline
from hycompile.program import Method, Program


def on_meta(name: str, prompt: int) -> Program:
    """Prefill and decode in shapes alone."""
    plan = PLANS[name].resized(prompt=prompt, context=32768)
    with torch.device("meta"):
        model = Decoder(plan).eval()
        methods = calls(plan, torch.zeros(1, prompt, dtype=torch.int64))
    return capture(model, methods={key: methods[key] for key in ("prefill", "decode")})


def compiled(program: Program) -> dict[str, Method]:
    lowered, _ = Pipeline.parse("normalise,sink-slices,share-memory,lower-scans")(program, prove=False)
    return lowered.methods


def test_the_cut_leaves_no_layer_behind_the_shared_cache_but_its_last_row() -> None:
    """Of 8 blocks 5 fill the memory and the cache; these and keys and values of the fifth are all that see a prompt."""
    program, plan = on_meta("sambay-tiny", 64), PLANS["sambay-tiny"]
    head = plan.width * plan.vocabulary
    before = macs(program.methods["prefill"].graph)["linear"] - 64 * head
    after = macs(compiled(program)["prefill"].graph)["linear"] - head
    assert 0.7 < after / before < 0.75


@pytest.mark.slow
def test_the_cut_leaves_57_percent_of_the_linears_of_phi_4_mini_flash() -> None:
    """Of those in layers: the head, which would be computed for every token, is not counted."""
    tokens, program = 512, on_meta("phi-4-mini-flash", 512)
    plan = PLANS["phi-4-mini-flash"]
    head = plan.width * plan.vocabulary
    before = macs(program.methods["prefill"].graph)["linear"] - tokens * head
    after = macs(compiled(program)["prefill"].graph)["linear"] - head
    assert before / tokens == pytest.approx(3339e6, rel=0.001)
    assert after / before <= 0.57


@pytest.mark.slow
def test_graphs_do_not_grow_with_the_prompt() -> None:
    sizes = [
        {key: len(method.graph.graph.nodes) for key, method in compiled(on_meta("sambay-tiny", prompt)).items()}
        for prompt in (512, 8192)
    ]
    assert sizes[0] == sizes[1]
