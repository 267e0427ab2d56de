"""Mixtures of experts without gathering: every expert computes, and the ones a token is not routed to count zero.

The same function as routing token by token, in a graph of fixed shape that any runtime takes: no ``topk``, no
``scatter``, no loop over experts. It costs all experts' multiplications instead of the chosen ones'.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Routing = tuple[Tensor, Tensor, None]


def largest(scores: Tensor, count: int) -> Tensor:
    """True at the ``count`` largest of the last axis; of equal ones the first are taken.

    The rank of a score is the number of scores before it, so no sorting is needed. It is counted in the type of the
    scores: runtimes that add up truth values are few.
    """
    mine, other = scores[..., :, None], scores[..., None, :]
    earlier = torch.ones(scores.shape[-1], scores.shape[-1], dtype=torch.bool).tril(-1)
    before = (other > mine) | ((other == mine) & earlier)
    return before.to(scores.dtype).sum(-1) < count


def pack(experts: Any) -> None:
    """Store the weights of all experts as two matrices, in place: one linear up, one down, over all of them."""
    up = "gate_up_proj" if hasattr(experts, "gate_up_proj") else "up_proj"
    setattr(experts, up, nn.Parameter(getattr(experts, up).detach().flatten(0, 1)))
    experts.down_proj = nn.Parameter(experts.down_proj.detach().permute(1, 0, 2).flatten(1))


def compute(experts: Any, hidden_states: Tensor, _: None, weights: Tensor) -> Tensor:
    """Experts packed by :func:`pack` on [tokens, width], weighted by ``weights`` [tokens, experts]."""
    if hasattr(experts, "gate_up_proj"):
        inner = F.linear(hidden_states, experts.gate_up_proj).unflatten(-1, (experts.num_experts, -1))
        gate, inner = inner.chunk(2, dim=-1)
        inner = experts.act_fn(gate) * inner
    else:
        inner = experts.act_fn(F.linear(hidden_states, experts.up_proj)).unflatten(-1, (experts.num_experts, -1))
    return F.linear((inner * weights[..., None]).flatten(1), experts.down_proj)


def route_granite(router: Any, hidden_states: Tensor) -> Routing:
    """Softmax over the chosen."""
    logits = F.linear(hidden_states, router.weight)
    chosen = largest(logits, router.top_k)
    return logits, logits.masked_fill(~chosen, -torch.inf).softmax(-1), None


def route_jamba(router: Any, hidden_states: Tensor) -> Routing:
    """Softmax over all, the chosen kept."""
    logits = F.linear(hidden_states, router.weight)
    scores = logits.softmax(-1)
    return logits, _only(scores, largest(scores, router.top_k)), None


def route_qwen(router: Any, hidden_states: Tensor) -> Routing:
    """Softmax over all, the chosen kept and, where the configuration says so, brought to a sum of one."""
    logits, weights, _ = route_jamba(router, hidden_states)
    return logits, weights / weights.sum(-1, keepdim=True) if router.norm_topk_prob else weights, None


def route_nemotron(router: Any, hidden_states: Tensor) -> Routing:
    """Sigmoids; chosen by corrected score, from the groups whose two best experts are best."""
    logits = F.linear(hidden_states.flatten(0, -2), router.weight)
    scores = logits.sigmoid()
    corrected = scores + router.e_score_correction_bias
    groups = corrected.unflatten(-1, (router.num_group, -1))
    best_two = _only(groups, largest(groups, 2)).sum(-1)
    groups = groups.masked_fill(~largest(best_two, router.topk_group)[..., None], -torch.inf)
    weights = _only(scores, largest(groups.flatten(-2), router.top_k))
    if router.norm_topk_prob:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return logits, weights * router.routed_scaling_factor, None


def _only(scores: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, scores, torch.zeros_like(scores))
