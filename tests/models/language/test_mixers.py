"""Every mixer computes the same as a whole, as a prompt with padding, in chunks of a prompt, and token by token."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from hycompile.models.language.initial import initialise
from hycompile.models.language.layers import ResidualUnit
from hycompile.models.language.mixer import Shared, Span, State
from hycompile.models.language.plan import Kind, Layer, Plan
from hycompile.parity import relative_error

KINDS: tuple[Kind, ...] = get_args(Kind)
WINDOW, CONTEXT, WIDTH = 8, 96, 32
# Below the window, its multiple, no multiple of any chunk, and longer than the chunk of every recurrence.
LENGTHS = [1, 5, 16, 33, 75]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
READERS: dict[str, Kind] = {"gmu": "mamba1", "ngmu": "gated-deltanet", "cross": "full", "diff-cross": "diff-full"}


class Stack:
    """A mixer, behind the layer that gives what it reads."""

    def __init__(self, kind: Kind, dtype: torch.dtype) -> None:
        layers = (Layer(READERS[kind], gives=True), Layer(kind, depth=1)) if kind in READERS else (Layer(kind),)
        plan = Plan(layers, window=WINDOW, context=CONTEXT)
        self.units = torch.nn.ModuleList(ResidualUnit(plan, layer) for layer in layers)
        initialise(self.units, len(layers), seed=1)
        self.units.to(dtype)
        self.dtype = dtype

    def zeros(self) -> list[State]:
        return [
            {name: torch.zeros(1, *shape, dtype=self.dtype) for name, shape in unit.mixer.state_shapes().items()}
            for unit in self.units
            if isinstance(unit, ResidualUnit)
        ]

    def run(self, x: Tensor, states: list[State], span: Span, step: bool = False) -> tuple[Tensor, list[State]]:
        shared, after = Shared(), list[State]()
        for unit, state in zip(self.units, states, strict=True):
            x, state = unit(x, state, span, shared, step)
            after.append(state)
        return x, after

    def decode(self, x: Tensor, states: list[State], start: int) -> tuple[Tensor, list[State]]:
        outputs: list[Tensor] = []
        for at in range(x.shape[1]):
            y, states = self.run(x[:, at : at + 1], states, Span(1, torch.tensor([start + at])), step=True)
            outputs.append(y)
        return torch.cat(outputs, 1), states


def start(tokens: int, count: int | None = None) -> Span:
    return Span(tokens, torch.tensor([0]), None if count is None else torch.tensor([count]), fresh=True)


def agree(found: list[State], expected: list[State], tolerance: float) -> None:
    for first, second in zip(found, expected, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert relative_error([value], [second[name]]) < tolerance, name


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_prompt_chunks_and_steps_agree(kind: Kind, dtype: torch.dtype) -> None:
    stack, tolerance = Stack(kind, dtype), TOLERANCE[dtype]
    for tokens in LENGTHS:
        x = torch.randn(1, tokens, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(tokens))
        with torch.no_grad():
            expected, state = stack.decode(x, stack.zeros(), 0)
            whole, after = stack.run(x, stack.zeros(), start(tokens))
            assert relative_error([whole], [expected]) < tolerance, tokens
            agree(after, state, tolerance)
            padded = torch.cat([x, torch.ones(1, 7, WIDTH, dtype=dtype)], 1)
            prompt, after = stack.run(padded, stack.zeros(), start(tokens + 7, tokens))
            assert relative_error([prompt[:, :tokens]], [expected]) < tolerance, tokens
            agree(after, state, tolerance)
            first = tokens // 2 + 1
            head, after = stack.run(x[:, :first], stack.zeros(), start(first))
            span = Span(padded[:, first:].shape[1], torch.tensor([first]), torch.tensor([tokens - first]))
            tail, after = stack.run(padded[:, first:], after, span)
            assert relative_error([torch.cat([head, tail[:, : tokens - first]], 1)], [expected]) < tolerance, tokens
            agree(after, state, tolerance)
        # Under autograd recurrences take their chunked forms.
        chunked, after = stack.run(x.requires_grad_(), stack.zeros(), start(tokens))
        assert relative_error([chunked.detach()], [expected]) < tolerance, tokens
        agree([{name: value.detach() for name, value in kept.items()} for kept in after], state, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_what_came_before_matters(kind: Kind) -> None:
    """Unless a mixer has no state, and then nothing does: what holds a test above from passing on zeros."""
    stack = Stack(kind, torch.float32)
    x = torch.randn(1, 9, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, states = stack.decode(x, stack.zeros(), 0)
        span = Span(1, torch.tensor([9]))
        expected, _ = stack.run(x[:, -1:], states, span, step=True)
        for index, state in enumerate(states):
            for name, value in state.items():
                emptied = [*states]
                emptied[index] = {**state, name: torch.zeros_like(value)}
                found, _ = stack.run(x[:, -1:], emptied, span, step=True)
                assert relative_error([found], [expected]) > 1e-3, (index, name)


def test_gradients_reach_every_parameter() -> None:
    for kind in KINDS:
        stack = Stack(kind, torch.float32)
        y, _ = stack.run(torch.randn(2, 40, WIDTH), [_rows(state) for state in stack.zeros()], start(40))
        y.square().sum().backward()
        for name, parameter in stack.units.named_parameters():
            assert parameter.grad is not None, (kind, name)
            assert bool(parameter.grad.isfinite().all()), (kind, name)
            assert bool(parameter.grad.any()), (kind, name)


def _rows(state: State) -> State:
    return {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in state.items()}
