"""Chunked forms equal the definitions, at lengths that fill chunks and lengths that do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hycompile import recurrence
from hycompile.recurrence import chunked, sequential
from tests.recurrence.inputs import (
    BATCH,
    HEADS,
    LENGTHS,
    RECURRENCES,
    TOLERANCES,
    cache_inputs,
    conv_inputs,
    linear_inputs,
    scan_inputs,
)

DTYPES = sorted(TOLERANCES, key=str)


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for value, wanted in zip(found, expected, strict=True):
        assert value.shape == wanted.shape
        assert (value - wanted).abs().max() <= TOLERANCES[wanted.dtype] * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", RECURRENCES)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_linear_recurrence(kind: str, tokens: int, dtype: torch.dtype) -> None:
    inputs = linear_inputs(kind, tokens, dtype)
    same(chunked.linear_recurrence(*inputs), sequential.linear_recurrence(*inputs))


@pytest.mark.parametrize("kind", RECURRENCES)
@pytest.mark.parametrize(("chunk", "block"), [(1, 1), (4, 2), (5, 3), (8, 16), (200, 1)])
def test_linear_recurrence_in_chunks_of_other_sizes(kind: str, chunk: int, block: int) -> None:
    inputs = linear_inputs(kind, 65, torch.float64)
    same(chunked.linear_recurrence(*inputs, chunk=chunk, block=block), sequential.linear_recurrence(*inputs))


@pytest.mark.parametrize("kind", ["gated", "keyed", "gated delta", "keyed delta"])
def test_strong_decay_neither_overflows_nor_loses_the_last_token(kind: str) -> None:
    query, key, value, log_decay, beta, state = linear_inputs(kind, 130, torch.float32)
    assert log_decay is not None
    inputs = (query, key, value, log_decay * 500, beta, state)
    same(chunked.linear_recurrence(*inputs), sequential.linear_recurrence(*inputs))


def test_equal_keys_keep_the_delta_rule_exact() -> None:
    """The power series of the inverse has terms near 10^17 here."""
    query, key, value, _, _, state = linear_inputs("delta", 64, torch.float32)
    key = key[:, :1].expand_as(key)
    inputs = (query, key, value, None, torch.ones(value.shape[:3]), state)
    same(chunked.linear_recurrence(*inputs), sequential.linear_recurrence(*inputs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_selective_scan(tokens: int, dtype: torch.dtype) -> None:
    inputs = scan_inputs(tokens, dtype)
    same(chunked.selective_scan(*inputs), sequential.selective_scan(*inputs))


@pytest.mark.parametrize(("chunk", "block"), [(1, 1), (5, 3), (13, 2), (200, 1)])
def test_selective_scan_in_chunks_of_other_sizes(chunk: int, block: int) -> None:
    inputs = scan_inputs(65, torch.float64)
    same(chunked.selective_scan(*inputs, chunk=chunk, block=block), sequential.selective_scan(*inputs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [None, 1, 2, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_causal_conv(bias: bool, count: int | None, dtype: torch.dtype) -> None:
    inputs = conv_inputs(5, dtype, bias, count)
    same(chunked.causal_conv(*inputs), sequential.causal_conv(*inputs))


@pytest.mark.parametrize("tokens", LENGTHS)
def test_causal_conv_of_any_length(tokens: int) -> None:
    inputs = conv_inputs(tokens, torch.float64, True, None)
    same(chunked.causal_conv(*inputs), sequential.causal_conv(*inputs))


@pytest.mark.parametrize("start", [0, 3, 7, 8, 29])
@pytest.mark.parametrize("tokens", [1, 2, 5, 7, 8, 9, 16, 17, 30])
def test_cache_write(tokens: int, start: int) -> None:
    for count in (None, 0, 1, tokens - 1, tokens):
        inputs = cache_inputs(tokens, torch.float32, start, count)
        assert torch.equal(chunked.cache_write(*inputs), sequential.cache_write(*inputs))


@pytest.mark.parametrize("kind", RECURRENCES)
def test_training_uses_the_chunked_form(kind: str) -> None:
    """Gradients reach every input and equal those of the definition, taken token by token."""
    inputs = linear_inputs(kind, 70, torch.float64)
    given = [tensor.requires_grad_() for tensor in inputs if tensor is not None]
    found = torch.autograd.grad(_scalar(recurrence.linear_recurrence(*inputs)), given)
    expected = torch.autograd.grad(_scalar(_definition(*inputs)), given)
    same(found, expected)


def test_training_of_scan_and_convolution() -> None:
    scan = tuple(tensor.requires_grad_() for tensor in scan_inputs(40, torch.float64))
    for gradient in torch.autograd.grad(_scalar(recurrence.selective_scan(*scan)), scan):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    x, weight, bias, state, _ = conv_inputs(9, torch.float64, True, None)
    conv = [x.requires_grad_(), weight.requires_grad_(), state.requires_grad_()]
    gradients = torch.autograd.grad(_scalar(recurrence.causal_conv(x, weight, bias, state)), conv)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def _scalar(outputs: tuple[Tensor, Tensor]) -> Tensor:
    return outputs[0].sin().sum() + outputs[1].sin().sum()


def _definition(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition without writes in place, which autograd refuses."""
    outputs: list[Tensor] = []
    for t in range(key.shape[1]):
        if log_decay is not None:
            state = state * log_decay[:, t].reshape(BATCH, HEADS, -1, 1).exp()
        update = value[:, t]
        if beta is not None:
            update = beta[:, t, :, None] * (update - (key[:, t, :, None] @ state).squeeze(-2))
        state = state + key[:, t, :, :, None] * update[:, :, None]
        outputs.append((query[:, t, :, None] @ state).squeeze(-2))
    return torch.stack(outputs, 1), state
