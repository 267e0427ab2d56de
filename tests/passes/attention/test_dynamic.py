"""Sizes that depend on the input: what no rule can compute from them is refused, with the sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim
from torch.nn import functional as F

from hycompile.passes.fuse_conv_attention.batch_axes import heads_into_queries, merge_batch_axes
from hycompile.passes.fuse_conv_attention.fold_scale import fold_scale
from hycompile.passes.fuse_conv_attention.linear_attention import multiply_right_first
from hycompile.passes.fuse_conv_attention.parts import select_to_slice, take_parts
from hycompile.passes.fuse_conv_attention.split_projection import split_projection
from hycompile.passes.fuse_conv_attention.talking_heads import fold_into_talking_head
from hycompile.rewrite import Rule
from tests.passes.attention.models import DIM, Attention, linear, multi_query, timm, units
from tests.passes.attention.refusing import require_refusal
from tests.support import captured

Result = Tensor | tuple[Tensor, ...]
_batch, _tokens, _channels = Dim("batch", min=2, max=8), Dim("tokens", min=4, max=8), Dim("channels", min=4, max=16)
BATCH, TOKENS, CHANNELS, BOTH = {0: _batch}, {1: _tokens}, {2: _channels}, {0: _batch, 1: _tokens}


def _mixed_heads(m: Attention, x: Tensor) -> Tensor:
    q, k = (t.reshape(x.shape[0], -1, 2, 4).transpose(1, 2) for t in (m.q(x), m.k(x)))
    return m.mix(q @ k.mT + 1.0).softmax(-1)


CASES = [
    (merge_batch_axes, units, (2, 4, DIM), BATCH, "are dynamic"),
    (heads_into_queries, multi_query, (2, 5, DIM), BATCH, "are dynamic"),
    (multiply_right_first, linear, (2, 5, DIM), BATCH, "are dynamic"),
    (fold_scale, lambda m, x: F.scaled_dot_product_attention(x, x, x), (2, 5, DIM), CHANNELS, "of a head is dynamic"),
    (fold_into_talking_head, _mixed_heads, (2, 5, DIM), TOKENS, "the logits have a dynamic size"),
    (select_to_slice, lambda m, x: x.relu()[:, -1], (2, 5, DIM), TOKENS,
     "index -1 counts from the end of a dynamic size"),
    (select_to_slice, lambda m, x: x.relu()[:, :, 0], (2, 5, DIM), BOTH, "are dynamic, a reshape infers one"),
    (split_projection, timm, (2, 5, DIM), BOTH, "are dynamic, a reshape infers one"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "attend", "shape", "dims", "reason"), CASES, ids=[c[0].name for c in CASES])
def test_refusal(
    rule: Rule, attend: Callable[[Attention, Tensor], Result], shape: tuple[int, ...], dims: dict[int, Any], reason: str
) -> None:
    program = captured(Attention(attend), torch.randn(shape), dynamic_shapes=(dims,))
    take_parts(program)
    require_refusal(rule, program, reason)


def test_split_of_a_dynamic_axis_stays() -> None:
    program = captured(
        Attention(lambda m, x: tuple(x.relu().split([x.shape[1] - 2, 2], 1))),
        torch.randn(2, 5, DIM),
        dynamic_shapes=(TOKENS,),
    )
    report = take_parts(program)
    assert report.hits == 0
    assert "it splits an axis of dynamic size" in report.refusals[0].reason
