"""Targets that compute over channels anywhere: layer norm over an image, attention that takes what lies next to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from torch.fx import Node

from hycompile.builder import Builder, Value
from hycompile.errors import ParityError
from hycompile.parity import Proof
from hycompile.passes.layout import Layout, channels, ends, region
from hycompile.passes.layout.choose_layouts import choose_layouts
from hycompile.passes.layout.cost import TARGETS, move_operators, moved_bytes
from hycompile.passes.layout.ends import swap_ends
from hycompile.passes.layout.movable import Layout as OtherLayout
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.schema import bind
from hycompile.text import graph_text
from tests.passes.layout.models import Function, attended, causal, hidden_keys, masked, normed, transformer
from tests.support import captured

IMAGE = (2, 8, 4, 4)
COREML = TARGETS["coreml"]
Forward = Callable[[Function, Tensor], Tensor]
Golden = Callable[[str, str, str], None]


def _program(forward: Forward, shape: tuple[int, ...] = IMAGE) -> Program:
    return captured(Function(forward), torch.randn(shape))


@pytest.mark.parametrize("forward", [attended, masked])
def test_attention_takes_images(forward: Forward, golden: Golden) -> None:
    program = _program(forward)
    before = program.text()
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        rewritten = program.to(dtype)
        proof = Proof(rewritten)
        assert swap_ends(rewritten.methods["forward"].graph, COREML) == 4
        assert proof.check(rewritten, "swap_ends", tolerance) <= tolerance
        assert moved_bytes(rewritten) == 0
        if dtype == torch.float32:
            golden(f"swap_ends/{forward.__name__}", before, graph_text(rewritten.methods["forward"].graph))


@pytest.mark.parametrize("forward", [causal, hidden_keys])
def test_attention_that_is_no_product_stays(forward: Forward) -> None:
    program = _program(forward)
    assert swap_ends(program.methods["forward"].graph, COREML) == 0


def test_other_targets_take_nothing_in() -> None:
    for forward in (attended, normed):
        program = _program(forward)
        before = program.text()
        for name in ("generic", "xnnpack"):
            assert swap_ends(program.methods["forward"].graph, TARGETS[name]) == 0
        assert choose_layouts(program.methods["forward"].graph, TARGETS["generic"]) == 0
        assert program.text() == before


def test_norm_over_an_image(golden: Golden) -> None:
    program = _program(normed)
    proof, before = Proof(program), program.text()
    assert choose_layouts(program.methods["forward"].graph, COREML) == 1
    assert proof.check(program, "choose_layouts", 1e-5) <= 1e-5
    assert (moved_bytes(program), move_operators(program)) == (0, 0)
    golden("choose_layouts/normed", before, graph_text(program.methods["forward"].graph))


def test_a_transformer_over_windows_moves_at_its_ends_only() -> None:
    """What remains copies the image once on the way in and once on the way out; heads are views."""
    program = _program(transformer)
    once = 2 * 4 * 2 * 8 * 4 * 4
    for target, copies in (("generic", 10), ("coreml", 2)):
        rewritten, report = Pipeline((Layout(target),))(program)
        assert moved_bytes(rewritten) <= copies * once
        assert report.error_fp64 is not None
        assert report.error_fp64 < 1e-12


class _OrderKept(channels.FirstNorm):
    def build(self, build: Builder, node: Node, layout: OtherLayout, values: Mapping[Node, Value]) -> Value:
        x = values[bind(node)["input"]]
        return build.call("aten.layer_norm", x, *list(bind(node).values())[1:])


def test_norm_over_another_axis_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(normed, (2, 8, 4, 8))
    monkeypatch.setattr(region, "ANYWHERE", (_OrderKept(), *region.KINDS))
    with pytest.raises(ParityError, match="rule choose_layouts"):
        Pipeline((Layout("coreml"),))(program)


def test_an_end_that_is_not_swapped_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(attended, (2, 8, 4, 1))
    monkeypatch.setattr(ends, "give_away", lambda permute: Value(permute.node.args[0]))
    proof = Proof(program)
    assert swap_ends(program.methods["forward"].graph, COREML) > 0
    with pytest.raises(ParityError):
        proof.check(program, "swap_ends", 1e-5)
