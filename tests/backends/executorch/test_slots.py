"""One slot of a cache is written in place: the same values as the blend, whoever still reads the old ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.forms.slots import write_one_slot
from hycompile.capture import capture
from hycompile.parity import Proof
from hycompile.pipeline import Pipeline
from hycompile.program import Program, Step
from hycompile.prove import prove
from hycompile.recurrence.cache import write_one
from hycompile.rewrite import apply
from hycompile.text import graph_text

Build = Callable[..., Artifact]
Golden = Callable[[str, str, str], None]
SLOTS, STEPS = 6, 9


class Cache(nn.Module):
    """Keys in a ring; gives what is in it, and with ``old`` what was in it before."""

    keys: Tensor

    def __init__(self, old: bool = False) -> None:
        super().__init__()
        self.old = old
        self.register_buffer("keys", torch.zeros(1, 2, SLOTS, 4))

    def forward(self, new: Tensor, position: Tensor) -> Tensor:
        keys = write_one(self.keys, new, position)
        result = keys.sum(2) + (2 * self.keys.sum(2) if self.old else 0)
        self.keys.copy_(keys)
        return result


class Blend(nn.Module):
    """A selection that only looks like a write."""

    def __init__(self, blend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.blend = blend

    def forward(self, new: Tensor, cache: Tensor, position: Tensor) -> Tensor:
        return self.blend(new, cache, position)


def _program(old: bool = False) -> Program:
    torch.manual_seed(0)
    steps = [Step("forward", (torch.randn(1, 2, 1, 4), torch.tensor([at]))) for at in range(STEPS)]
    return _folded(capture(Cache(old).eval(), steps[4].inputs, script=tuple(steps)))


def _folded(program: Program) -> Program:
    """Slots numbered by a constant, as pipelines leave them."""
    return Pipeline.parse("normalise,fold-constants")(program)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_blend_of_one_token_is_a_write(dtype: torch.dtype, golden: Golden) -> None:
    program = _program().to(dtype)
    proof, before = Proof(program), graph_text(program.methods["forward"].graph)
    assert apply(write_one_slot, program).hits == 1
    assert proof.check(program, "write_one_slot", budget=0) == 0
    if dtype == torch.float32:
        golden("write_one_slot/ring", before, graph_text(program.methods["forward"].graph))


@pytest.mark.parametrize("old", [False, True])
def test_the_artifact_writes_in_place(old: bool, build: Build) -> None:
    """More steps than slots; a reader of the old values gets them, in place or not."""
    program = _program(old)
    artifact = build(program)
    assert "aten.where" not in str(artifact.manifest.facts)
    assert prove(Executorch().open(artifact), program) < 1e-6


def _numbers(like: Tensor, count: int = SLOTS) -> Tensor:
    return torch.arange(count).reshape(-1, *[1] * (like.dim() - 3))


@pytest.mark.parametrize(
    ("blend", "new", "position", "reason"),
    [
        (lambda new, cache, p: torch.where(_numbers(cache) == p % 7, new, cache), (1, 2, 1, 4), (1,), "7 slots of a"),
        (lambda new, cache, p: torch.where(_numbers(cache) + 1 == p % 6, new, cache), (1, 2, 1, 4), (1,), "numbered"),
        (
            lambda new, cache, p: torch.where(_numbers(cache) == p % 6, new, cache),
            (1, 2, 6, 4),
            (1,),
            "what is written",
        ),
        (lambda new, cache, p: torch.where(_numbers(cache) == p % 6, new, cache), (1, 2, 1, 4), (4,), "4 positions"),
    ],
)
def test_other_blends_are_refused(
    blend: Callable[[Tensor, Tensor, Tensor], Tensor], new: tuple[int, ...], position: tuple[int, ...], reason: str
) -> None:
    inputs = (torch.randn(new), torch.randn(1, 2, SLOTS, 4), torch.ones(position, dtype=torch.int64))
    program = _folded(capture(Blend(blend).eval(), inputs))
    before = graph_text(program.methods["forward"].graph)
    report = apply(write_one_slot, program)
    assert report.hits == 0
    assert graph_text(program.methods["forward"].graph) == before
    (refusal,) = report.refusals
    assert reason in refusal.reason
