"""Golden text before and after the pass for every way of writing attention, with hits and parity in both precisions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import hycompile as hy
from hycompile.errors import PassError
from hycompile.passes.fuse_conv_attention import FuseConvAttention
from hycompile.text import graph_text
from tests.passes.attention import models as m
from tests.passes.attention.models import DIM, TOKENS, Attention
from tests.support import captured, count

SEQUENCE, IMAGE = (2, TOKENS, DIM), (2, DIM, 2, 3)
FOLDED = {"fold_scale": 1, "drop_key_bias": 1, "move_value_bias": 1}
CASES = [
    ("timm", m.timm, SEQUENCE, {"take_parts": 1, "split_projection": 3, **FOLDED}),
    ("levit", m.levit, SEQUENCE,
     {"take_parts": 1, "recover_attention": 1, "split_projection": 3, "fold_scale": 1, "drop_key_bias": 1}),
    ("efficientvit_m", m.efficientvit_m, IMAGE,
     {"take_parts": 1, "recover_transposed_attention": 1, "split_projection": 3, **FOLDED}),
    ("over_rows", m.over_rows, IMAGE,
     {"take_parts": 1, "recover_transposed_attention": 1, "split_projection": 3, **FOLDED}),
    ("bias_before_scale", m.bias_before_scale, SEQUENCE, {"recover_attention": 1, **FOLDED}),
    ("einsum", m.einsum, SEQUENCE, {"einsum_to_matmul": 2, "recover_attention": 1, **FOLDED}),
    ("batched", m.batched, SEQUENCE,
     {"bmm_to_matmul": 2, "recover_attention": 1, "drop_key_bias": 1, "move_value_bias": 1}),
    ("runtime_bias", m.runtime_bias, SEQUENCE, {"recover_attention": 1, "drop_key_bias": 1, "move_value_bias": 1}),
    ("over_channels", m.over_channels, SEQUENCE,
     {"take_parts": 1, "recover_attention": 1, "broadcast_right": 2, "fold_temperature": 1, "split_projection": 3}),
    ("query_norm", m.query_norm, SEQUENCE, FOLDED),
    ("units", m.units, (2, 4, DIM), {"merge_batch_axes": 1, **FOLDED}),
    ("talking_heads", m.talking_heads, SEQUENCE, {"fold_into_talking_head": 1}),
    ("relu_linear", m.relu_linear, SEQUENCE, {"unpad_linear_attention": 1}),
    ("linear", m.linear, SEQUENCE, {"multiply_right_first": 1}),
    ("separable", m.separable, IMAGE, {"take_parts": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "attend", "shape", "hits"), CASES, ids=[case[0] for case in CASES])
def test_case(
    case: str,
    attend: Callable[[Attention, Tensor], Tensor],
    shape: tuple[int, ...],
    hits: dict[str, int],
    golden: Callable[[str, str, str], None],
) -> None:
    program = captured(Attention(attend), torch.randn(shape))
    rewritten, report = hy.Pipeline((FuseConvAttention(),))(program)
    found = {rule.rule: rule.hits for rule in report.passes[0].rules if rule.hits}
    assert {name: found.get(name, 0) for name in hits} == hits
    assert report.error_fp32 is not None
    assert report.error_fp32 <= 1e-5
    assert report.error_fp64 is not None
    assert report.error_fp64 <= 1e-12
    before, after = (graph_text(p.methods["forward"].graph) for p in (program, rewritten))
    golden(f"fuse_conv_attention/{case}", before, after)


@pytest.mark.parametrize("attend", [m.timm, m.levit, m.efficientvit_m], ids=["timm", "levit", "efficientvit_m"])
def test_kept_projection(attend: Callable[[Attention, Tensor], Tensor]) -> None:
    """``qkv=keep`` leaves one projection, whose parts are slices; no operator returns several values."""
    shape = IMAGE if attend is m.efficientvit_m else SEQUENCE
    program = captured(Attention(attend), torch.randn(shape))
    rewritten, report = hy.Pipeline((FuseConvAttention(qkv="keep"),))(program)
    assert count(rewritten, "aten.linear", "aten.conv2d") == 2
    assert count(rewritten, "aten.slice.Tensor") == 3
    assert count(rewritten, "aten.select.int", "aten.unbind.int", "aten.split.Tensor", "aten.split_with_sizes") == 0
    assert report.error_fp64 is not None
    assert report.error_fp64 <= 1e-12


def test_nothing_to_do_twice() -> None:
    program = captured(Attention(m.timm), torch.randn(SEQUENCE))
    once, _ = hy.Pipeline((FuseConvAttention(),))(program)
    _, report = hy.Pipeline((FuseConvAttention(),))(once)
    assert report.passes[0].hits == 0


def test_dynamic_batch() -> None:
    batch = torch.export.Dim("batch", min=2, max=8)
    program = captured(Attention(m.timm), torch.randn(SEQUENCE), dynamic_shapes=({0: batch},))
    rewritten, report = hy.Pipeline((FuseConvAttention(),))(program)
    found = {rule.rule: rule.hits for rule in report.passes[0].rules if rule.hits}
    assert found["split_projection"] == 3
    assert count(rewritten, "aten.unbind.int", "aten.select.int") == 0


def test_unknown_option() -> None:
    with pytest.raises(PassError, match="qkv is 'other'"):
        hy.Pipeline.parse("fuse-conv-attention{qkv=other}")
