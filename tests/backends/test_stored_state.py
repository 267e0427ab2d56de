"""State in artifacts of every format that runs here: stored once, and each session's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hycompile import registry
from hycompile.artifact import Artifact
from hycompile.backend import Session
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.lowering import lower
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.prove import prove
from hycompile.pure import pure
from hycompile.storage import stored_bytes
from tests.toy_sambay import INNER, SLOTS, STATE, WIDTH, toy

RUNTIMES = ("executorch", "onnx", "coreml", "tvm")
# Core ML keeps state in 16 bits.
ITEM_BYTES = {"executorch": 4, "onnx": 4, "coreml": 2, "tvm": 4}
SPACE, CACHE = INNER * STATE, 2 * SLOTS * WIDTH

Build = Callable[..., Artifact]


@functools.cache
def _program(pipeline: str) -> Program:
    return Pipeline.parse(pipeline)(toy(own_caches=True), prove=False)[0]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    cache = Cache(tmp_path_factory.mktemp("stored"))

    @functools.cache
    def made(runtime: str, pipeline: str = "share-memory,lower-scans") -> Artifact:
        precision: Any = "fp16" if runtime == "coreml" else "fp32"
        return lower(_program(pipeline), "host", runtime, precision=precision, cache=cache)

    return made


def _open(artifact: Artifact) -> Session:
    return registry.backend(artifact.manifest.backend).open(artifact)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_shared_cache_is_stored_once(build: Build, runtime: str) -> None:
    """Three attentions read it in two methods; the gated memory, made anew for every token, is not stored at all."""
    artifact = build(runtime)
    facts = artifact.manifest.facts
    assert facts["state_bytes"] == ITEM_BYTES[runtime] * (SPACE + CACHE)
    assert facts["state_bytes"] == stored_bytes(_program("share-memory,lower-scans"), state=True) // (
        4 // ITEM_BYTES[runtime]
    )
    assert prove(_open(artifact), toy(own_caches=True)) < (2e-2 if runtime == "coreml" else 1e-5)


def test_what_is_not_shared_is_counted_as_often_as_it_is_there(build: Build) -> None:
    assert build("onnx", "lower-scans").manifest.facts["state_bytes"] == 4 * (SPACE + 3 * CACHE)


@pytest.mark.parametrize("runtime", ["executorch", "onnx", "tvm"])
def test_weights_are_counted(build: Build, runtime: str) -> None:
    """At least the matrices, which no constant folding can do without."""
    matrices = {id(value): value.nbytes for value in _program("lower-scans").tensors().values() if value.ndim == 2}
    facts: Any = build(runtime).manifest.facts
    assert facts["weight_bytes"] > 0.8 * sum(matrices.values())
    assert facts.get("first_state_bytes", facts["state_bytes"]) >= facts["state_bytes"]


class Kept(nn.Module):
    """Reads its state reshaped, before it looks at its input."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.kept.permute(1, 0).reshape(8) + x
        self.kept.copy_(y.reshape(2, 4))
        return y


@pytest.mark.parametrize("runtime", ["onnx", "tvm"])
def test_state_may_be_read_ahead_of_the_inputs(runtime: str, tmp_path: Path) -> None:
    """A pass may leave what needs nothing but state at the head of a graph, before the placeholders."""
    program = capture(Kept().eval(), (torch.randn(8),))
    graph = program.methods["forward"].graph.graph
    (given,) = graph.find_nodes(op="placeholder")
    (reads,) = (node for node in graph.nodes if node.target is torch.ops.aten.add.Tensor)
    reads.prepend(given)
    graph.lint()
    assert prove(_open(lower(program, "host", runtime, cache=Cache(tmp_path))), program) < 1e-6
    with torch.no_grad():
        exported = pure(program.methods["forward"]).exported.module()
        assert torch.equal(exported(torch.ones(8), torch.zeros(2, 4))[0], torch.ones(8))


def _calls(seed: int) -> list[tuple[str, tuple[Tensor, ...]]]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 20, (1, 7), generator=generator)
    later = [("decode", (tokens[:, at : at + 1], torch.tensor([at]))) for at in range(4, 7)]
    return [("prefill", (tokens[:, :4], torch.tensor([0]))), *later]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_two_texts_run_side_by_side(build: Build, runtime: str) -> None:
    artifact = build(runtime)
    alone = [[_run(session, call) for call in _calls(seed)] for seed in (1, 2) for session in [_open(artifact)]]
    first, second = _open(artifact), _open(artifact)
    for step, (mine, yours) in enumerate(zip(_calls(1), _calls(2), strict=True)):
        assert torch.equal(_run(first, mine), alone[0][step])
        assert torch.equal(_run(second, yours), alone[1][step])
    assert not torch.equal(alone[0][-1], alone[1][-1])


def _run(session: Session, call: tuple[str, tuple[Tensor, ...]]) -> Tensor:
    method, inputs = call
    return session.run(inputs, method)[0].clone()
