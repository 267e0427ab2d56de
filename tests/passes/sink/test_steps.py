"""Each operator a selection sinks through: the linear before it computes one row in place of six."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.capture import capture
from hycompile.schema import bind, is_call
from tests.passes.sink.sinking import Step, Steps, sunk


def _attend_along_batch(x: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, mask)


STEPS: dict[str, Step] = {
    "layer norm": lambda m, x: m.layer_norm(x)[:, -1:],
    "rms norm": lambda m, x: m.rms_norm(x)[:, 2],
    "norm in pieces": lambda m, x: (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))[:, -1:],
    "norm by vector norm": lambda m, x: (x / torch.linalg.vector_norm(x, dim=-1, keepdim=True))[:, 1],
    "centred": lambda m, x: (x - x.mean(-1, keepdim=True)).div(x.var(-1, keepdim=True).sqrt())[:, -1],
    "broadcast": lambda m, x: (x * m.linear.bias + torch.arange(6.0)[:, None] - torch.ones(2, 1, 1))[:, -1:],
    "where": lambda m, x: torch.where(x > 0, x, x * 0.1).masked_fill(x > 1, 0.5).clamp(-1, 2)[:, -1:],
    "casts": lambda m, x: x.double().type_as(m.key).add(torch.zeros_like(x))[:, -1],
    "cast like itself": lambda m, x: x.mul(2).double().type_as(x)[:, -1],
    "softmax": lambda m, x: (x.softmax(-1) + x.log_softmax(2))[:, 3:4],
    "glu and running total": lambda m, x: F.glu(x).cumsum(-1)[:, -1],
    "reductions": lambda m, x: (x.amax(-1) + x.sum(2) + x.logsumexp(-1) + x.argmax(-1))[:, -1:],
    "concatenation": lambda m, x: torch.cat([x.relu(), x, m.key.mean(1, keepdim=True).expand(2, 6, 8)], -1)[:, -1:],
    "stack": lambda m, x: torch.stack([x, x.sigmoid()], 1)[:, :, -1:],
    "splits": lambda m, x: torch.cat([x.chunk(2, -1)[1], x.split([3, 5], -1)[0], x[..., :2]], -1)[:, -1:],
    "unbound": lambda m, x: (x.reshape(2, 6, 2, 4).unbind(2)[1] + x.reshape(2, 6, 2, 4).select(-2, 0))[:, -1],
    "other index": lambda m, x: x.index_select(-1, torch.tensor([5, 1, 1]))[:, -1],
    "views": lambda m, x: x.permute(2, 1, 0)[:, None].transpose(0, 1).squeeze(0).mT.reshape(4, 2, 2, 6)[..., -1],
    "transposed": lambda m, x: x.select(0, 0).t().unsqueeze(-1)[:, -1],
    "expanded": lambda m, x: x.unsqueeze(1).expand(2, 3, -1, 8)[:, :, -1:],
    "left operand": lambda m, x: (x @ m.key.mT)[:, -1:],
    "right operand": lambda m, x: (m.key @ x.mT)[..., -1],
    "batch of a product": lambda m, x: (x.transpose(0, 1) @ m.key.mean(0).mT)[-1],
    "mm and addmm": lambda m, x: torch.addmm(m.linear.bias, x[0].mm(m.linear.weight), m.linear.weight)[5],
    "bmm": lambda m, x: torch.bmm(x, m.key.mT)[:, -1],
    "columns of addmm": lambda m, x: torch.addmm(m.linear.bias[:6], m.linear.weight, x[0].mT)[:, -1],
    "einsum": lambda m, x: torch.einsum("bqd, bkd -> bqk", x, m.key)[:, -1:],
    "einsum of rows": lambda m, x: torch.einsum("bqd,bqe->bqde", x, x.sin())[:, -1:],
    "embedding": lambda m, x: m.table(x.argmax(-1))[:, -1],
    "query": lambda m, x: F.scaled_dot_product_attention(x, m.key, m.key)[:, -1:],
    "query and mask": lambda m, x: F.scaled_dot_product_attention(x, m.key, m.key, m.seen)[:, 2],
    "causal query": lambda m, x: F.scaled_dot_product_attention(x, m.key, m.key, is_causal=True, scale=0.3)[:, 2:3],
    "causal last query": lambda m, x: F.scaled_dot_product_attention(x, m.key, m.key, is_causal=True)[:, -1:],
    "heads of attention": lambda m, x: _attend_along_batch(x.transpose(0, 1), m.key[0, :2, :2])[-1:],
}  # fmt: skip


NOT_ALL = {step: [1, 1, 8] for step in ("transposed", "mm and addmm", "columns of addmm")}
"""Steps that take one sequence of the batch too."""


class AllSteps(nn.Module):
    """Every step after a linear of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = Steps(lambda m, x: x)
        self.linears = nn.ModuleDict({step.replace(" ", "_"): nn.Linear(8, 8) for step in STEPS})

    def forward(self, x: Tensor) -> list[Any]:
        linears = self.linears.values()
        return [step(self.tools, linear(x)) for step, linear in zip(STEPS.values(), linears, strict=True)]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[int]]:
    """The shape of each linear's result after the pass, by its name."""
    torch.manual_seed(0)
    rewritten, _ = sunk(capture(AllSteps().eval(), (torch.randn(2, 6, 8),)))
    nodes = [node for node in rewritten.methods["forward"].graph.graph.nodes if is_call(node, "aten.linear")]
    return {bind(node)["weight"].target.split(".")[1]: list(node.meta["val"].shape) for node in nodes}


@pytest.mark.parametrize("step", STEPS)
def test_linear_before_computes_one_row(step: str, rows: dict[str, list[int]]) -> None:
    assert rows[step.replace(" ", "_")] == NOT_ALL.get(step, [2, 1, 8])
