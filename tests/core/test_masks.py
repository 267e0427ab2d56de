"""Whether a query may have all its keys masked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.masks import masked_row, masked_row_in
from hycompile.schema import is_call
from tests.support import captured

_INF = float("inf")


class _Attention(nn.Module):
    def __init__(self, mask: Callable[[_Attention, Tensor], Tensor | None], causal: bool = False) -> None:
        super().__init__()
        self.mask, self.causal, self.linear = mask, causal, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q = x[:, :, :2]
        return F.scaled_dot_product_attention(q, x, x, self.mask(self, x), is_causal=self.causal)


def _reason(model: _Attention) -> str | None:
    program = captured(model, torch.randn(1, 2, 3, 4))
    module = program.methods["forward"].graph
    (attention,) = (node for node in module.graph.nodes if is_call(node, "aten.scaled_dot_product_attention"))
    return masked_row(module, attention)


SEEN = [
    ("none", lambda m, x: None),
    ("finite", lambda m, x: torch.full((2, 3), -1e9)),
    ("some", lambda m, x: torch.tensor([[0.0, -_INF, -_INF], [-_INF, 0.0, 0.0]])),
    ("booleans", lambda m, x: torch.tensor([[True, False, False], [False, True, True]])),
    ("computed", lambda m, x: m.linear(x)[:, :, :2] + 1.0),
]
MASKED = [
    ("row", lambda m, x: torch.tensor([[0.0, 0.0, 0.0], [-_INF, -_INF, -_INF]]), "masks all keys in 1 of 2 rows"),
    ("booleans", lambda m, x: torch.tensor([[False] * 3] * 2), "masks all keys in 2 of 2 rows"),
    ("runtime", lambda m, x: x[:, :, :2, :3] > 0, "may be False along a whole row"),
    ("filled", lambda m, x: x[:, :, :2, :3].masked_fill(x[:, :, :2, :3] > 0, -_INF), "may be minus infinity"),
    ("input", lambda m, x: x[:, :, :2, :3], "is known at run time only"),
    ("infinity", lambda m, x: m.linear(x)[:, :, :2] + -_INF, "may be minus infinity"),
    ("infinities", lambda m, x: m.linear(x)[:, :, :2] + torch.tensor([[-_INF] * 3]), "holds infinities"),
]


@pytest.mark.parametrize(("case", "mask"), SEEN, ids=[case[0] for case in SEEN])
def test_every_query_sees_a_key(case: str, mask: Callable[[_Attention, Tensor], Tensor | None]) -> None:
    assert _reason(_Attention(mask)) is None


def test_causal_masking_leaves_the_first_key() -> None:
    assert _reason(_Attention(lambda m, x: None, causal=True)) is None


@pytest.mark.parametrize(("case", "mask", "reason"), MASKED, ids=[case[0] for case in MASKED])
def test_a_query_may_see_none(case: str, mask: Callable[[_Attention, Tensor], Tensor | None], reason: str) -> None:
    found = _reason(_Attention(mask))
    assert found is not None
    assert reason in found


def test_a_number_is_a_mask_too() -> None:
    assert masked_row_in(torch.tensor(0.0)) is None
    assert masked_row_in(torch.tensor(-_INF)) == "mask masks all keys in 1 of 1 rows"
