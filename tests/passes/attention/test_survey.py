"""Attention that is no scaled-dot-product attention is named, each kind by its own reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hycompile.passes.fuse_conv_attention import FuseConvAttention
from hycompile.passes.fuse_conv_attention.survey import name_other_attention
from hycompile.pipeline import Pipeline
from tests.passes.attention import models as m
from tests.passes.attention.models import Attention
from tests.support import captured

SEQUENCE, IMAGE = (2, 5, 8), (2, 8, 2, 3)
CASES = [
    ("talking_heads", m.talking_heads, SEQUENCE, "talking heads: heads are mixed behind the softmax"),
    ("separable", m.separable, IMAGE, "separable attention: the softmax weighs each position once"),
    ("relu_linear", m.relu_linear, SEQUENCE, "linear attention: no softmax"),
    ("output", lambda m, x: m.q(x).softmax(-1), SEQUENCE, "the softmax is an output"),
    ("other", lambda m, x: m.q(x).softmax(-1).relu(), SEQUENCE, "softmax of linear, used by relu"),
]


@pytest.mark.parametrize(("case", "attend", "shape", "reason"), CASES, ids=[case[0] for case in CASES])
def test_kind(case: str, attend: Callable[[Attention, Tensor], Tensor], shape: tuple[int, ...], reason: str) -> None:
    _, report = Pipeline((FuseConvAttention(),))(captured(Attention(attend), torch.randn(shape)))
    (survey,) = (rule for rule in report.passes[0].rules if rule.rule == "name_other_attention")
    assert [refusal.reason.startswith(reason) for refusal in survey.refusals] == [True]


def test_known_refusals_are_not_named_again() -> None:
    program = captured(Attention(lambda m, x: m.q(x).softmax(-1)), torch.randn(SEQUENCE))
    assert name_other_attention(program, {"softmax"}).refusals == []
