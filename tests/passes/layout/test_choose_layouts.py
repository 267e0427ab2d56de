"""Layouts chosen for regions: golden text, parity in both precisions, what stays as it is, and wrong operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional as F

from hycompile.builder import Builder, Value
from hycompile.errors import ParityError, PassError
from hycompile.parity import Proof
from hycompile.passes.layout import Layout, channels, movable, region
from hycompile.passes.layout.choose_layouts import choose_layouts
from hycompile.passes.layout.compose_moves import compose_moves
from hycompile.passes.layout.cost import TARGETS, move_operators, moved_bytes
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.rewrite import apply
from hycompile.schema import bind
from hycompile.text import graph_text
from tests.passes.layout.models import (
    Function,
    along_axes,
    between_windows,
    feed_forward,
    gated,
    image,
    pointwise_over_tokens,
    pooled,
    projection,
    tokens,
    used_in_both,
)
from tests.support import captured, count

IMAGE, LAST = (2, 8, 4, 4), (2, 4, 4, 8)
GENERIC = TARGETS["generic"]
Forward = Callable[[Function, Tensor], Tensor]


def _program(forward: Callable[..., object], shape: tuple[int, ...] = IMAGE) -> Program:
    return captured(Function(forward), torch.randn(shape))  # type: ignore[arg-type]


CASES = [
    (projection, IMAGE, 2, 0),
    (feed_forward, IMAGE, 4, 0),
    (between_windows, LAST, 1, 1),
    (pointwise_over_tokens, LAST, 3, 0),
    (along_axes, IMAGE, 5, 0),
    (gated, IMAGE, 3, 0),
    (pooled, IMAGE, 9, 1),
    (used_in_both, IMAGE, 2, 1),
]


@pytest.mark.parametrize(("forward", "shape", "hits", "copies"), CASES, ids=[case[0].__name__ for case in CASES])
def test_region(
    forward: Forward, shape: tuple[int, ...], hits: int, copies: int, golden: Callable[[str, str, str], None]
) -> None:
    program = _program(forward, shape)
    wide = program.to(torch.float64)
    proof, before, moved = Proof(program), program.text(), moved_bytes(program)
    assert choose_layouts(program.methods["forward"].graph, GENERIC) == hits
    assert proof.check(program, "choose_layouts", 1e-5) <= 1e-5
    proof = Proof(wide)
    assert choose_layouts(wide.methods["forward"].graph, GENERIC) == hits
    assert proof.check(wide, "choose_layouts", 1e-12) <= 1e-12
    assert moved_bytes(program) < moved
    apply(compose_moves, program)
    assert count(program, "aten.permute", "aten.transpose.int") == copies
    golden(f"choose_layouts/{forward.__name__}", before, graph_text(program.methods["forward"].graph))


STAYS: list[tuple[str, Forward]] = [
    ("layer_norm_needs_channels_last", lambda m, x: m.padded(image(m.norm(tokens(m.padded(x)))))),
    ("grouped_conv",
     lambda m, x: m.norm(m.grouped(m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))),
    ("padded_conv",
     lambda m, x: m.norm(m.padded(m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))),
    ("weight_of_run_time", lambda m, x: m.padded(image(F.linear(tokens(m.padded(x)), m.up.weight[:8] * x.mean())))),
    ("bias_of_run_time", lambda m, x: m.padded(image(F.linear(tokens(m.padded(x)), m.up.weight[:8], x[0, :, 0, 0])))),
    ("softmax_over_what_is_torn", lambda m, x: m.padded(image(tokens(m.padded(x)).softmax(1)))),
    ("operand_that_broadcasts_in_part",
     lambda m, x: m.norm(tokens(image(m.norm(tokens(m.padded(x)))) + m.table[:, :1]))),
    ("returned", lambda m, x: m.norm(tokens(x)).relu()),
    ("concatenation_of_tokens", lambda m, x: m.norm(torch.cat([tokens(m.padded(x)), m.table.expand(2, 4, 8)], 1))),
]  # fmt: skip


@pytest.mark.parametrize("forward", [case[1] for case in STAYS], ids=[case[0] for case in STAYS])
def test_stays(forward: Forward) -> None:
    """What cannot change layout, or gains nothing by it, is left alone."""
    program = _program(forward)
    before = program.text()
    assert choose_layouts(program.methods["forward"].graph, GENERIC) == 0
    assert program.text() == before


def test_dynamic_size_stays() -> None:
    sizes = {3: torch.export.Dim("width", min=2, max=16)}
    program = captured(Function(projection), torch.randn(IMAGE), dynamic_shapes=(sizes,))
    before = program.text()
    assert choose_layouts(program.methods["forward"].graph, GENERIC) == 0
    assert program.text() == before


def test_images_lie_channels_last_for_xnnpack() -> None:
    """Where the move is a view in memory, a linear stays one."""
    program = _program(projection)
    assert choose_layouts(program.methods["forward"].graph, TARGETS["xnnpack"]) == 0


class _OldAxis(movable.AlongAxis):
    def build(self, build: Builder, node: Node, layout: movable.Layout, values: Mapping[Node, Value]) -> Value:
        bound = bind(node)
        return build.call(node.target, *(bound | {"self": values[bound["self"]]}).values())  # type: ignore[arg-type]


class _Unmoved(movable.Elementwise):
    def build(self, build: Builder, node: Node, layout: movable.Layout, values: Mapping[Node, Value]) -> Value:
        return build.call(node.target, *(values.get(value, value) for value in node.args))  # type: ignore[arg-type]


class _TransposedWeight(channels.ChannelMix):
    def build(self, build: Builder, node: Node, layout: movable.Layout, values: Mapping[Node, Value]) -> Value:
        weight = channels.constant(build.module, bind(node)["weight"])
        assert weight is not None
        return build.call("aten.conv2d", values[bind(node)["input"]], weight.mT[:, :, None, None], bind(node)["bias"])


def _softmax(m: Function, x: Tensor) -> Tensor:
    return m.padded(m.padded(x).permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2))


def _shift(m: Function, x: Tensor) -> Tensor:
    return m.padded((m.padded(x).permute(0, 2, 3, 1) * m.scale).permute(0, 3, 1, 2))


class _Square(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(8, 8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(image(self.linear(tokens(self.conv(x)))))


@pytest.mark.parametrize(
    ("wrong", "make", "shape"),
    [
        (_OldAxis(), lambda: Function(_softmax), IMAGE),
        (_Unmoved(), lambda: Function(_shift), (2, 8, 8, 8)),
        (_TransposedWeight(), _Square, IMAGE),
    ],
    ids=["old_axis", "unmoved_constant", "transposed_weight"],
)
def test_parity_catches_it(
    wrong: movable.Movable, make: Callable[[], nn.Module], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = captured(make(), torch.randn(shape))
    Pipeline((Layout(),))(program)
    monkeypatch.setattr(region, "KINDS", (wrong, *region.KINDS))
    with pytest.raises(ParityError) as caught:
        Pipeline((Layout(),))(program)
    assert str(caught.value).startswith("pass layout, rule choose_layouts: changed what the model computes")


def test_pass_reports_what_is_moved() -> None:
    program = _program(feed_forward)
    rewritten, report = Pipeline.parse("layout{target=coreml}")(program)
    rules = {rule.rule: rule for rule in report.passes[0].rules}
    assert report.passes[0].text == "layout{target=coreml}"
    assert rules["choose_layouts"].facts == {
        "moved_bytes_before": moved_bytes(program),
        "move_operators_before": 2,
        "moved_bytes_after": 0,
        "move_operators_after": 0,
    }
    assert moved_bytes(program) == 2 * 2 * 4 * 2 * 8 * 4 * 4
    assert move_operators(rewritten) == 0
    assert report.error_fp64 is not None
    assert report.error_fp64 < 1e-12


def test_unknown_target() -> None:
    with pytest.raises(PassError, match="no target 'abacus'; one of generic, coreml, xnnpack"):
        Pipeline.parse("layout{target=abacus}")
