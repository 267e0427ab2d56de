"""Every architecture computes what transformers computes: at once, as prompt and steps, and after capture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hycompile import registry
from hycompile.capture import capture
from hycompile.errors import CaptureError
from hycompile.models.causal_lm.decoder import CausalLM
from hycompile.models.causal_lm.layouts import LAYOUTS
from hycompile.models.causal_lm.transformers_models import make
from hycompile.models.family import Built
from hycompile.models.transformers_import import transformers_class
from hycompile.parity import execute, relative_error
from hycompile.program import Program

TINY = sorted(name for name in LAYOUTS if name.endswith("-tiny"))
# Capturing takes seconds: the others are slow tests.
QUICK = {"causal-lm/falcon-h1-tiny", "causal-lm/lfm2-tiny", "causal-lm/nemotron-h-tiny"}
CAPTURED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
PROMPT, STEPS = 11, 64
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
# Without one buffer the logits change by more than this, far above what rounding does.
STATE_SHOWS = 1e-3
Step = Callable[[str, Tensor, int], Tensor]


class InFloat64(TorchFunctionMode):
    """transformers computes norms, positions and softmax in float32, whatever the model's type; this lifts them too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        lifted = [torch.float64 if value is torch.float32 else value for value in args]
        named = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        return func(*lifted, **named)


@dataclass
class Case:
    """One architecture: transformers' own model, and ours with the same weights."""

    name: str
    reference: Any
    built: Built

    @property
    def model(self) -> CausalLM:
        assert isinstance(self.built.module, CausalLM)
        return self.built.module

    @cached_property
    def program(self) -> Program:
        return capture(self.model, methods=self.built.methods)

    def tokens(self, count: int = PROMPT + STEPS) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        return torch.randint(self.model.model.config.vocab_size, (1, count), generator=generator)


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    """Built on first use, shared by the tests of this file."""
    return {}


@pytest.fixture
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    name = request.param
    if name not in cases:
        cases[name] = Case(name, make(LAYOUTS[name]), registry.family("causal-lm").build(name))
    return cases[name]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def stepped(tokens: Tensor, call: Step, prompt: int = 16) -> Tensor:
    """Logits of every token from the prompt's last on: a prompt with padding, then token by token."""
    padded = torch.full((1, prompt), 5)
    padded[:, :PROMPT] = tokens[:, :PROMPT]
    steps = [call("prefill", padded, PROMPT)]
    steps += [call("decode", tokens[:, at : at + 1], at) for at in range(PROMPT, tokens.shape[1])]
    return torch.cat(steps, 1)


def eager(model: CausalLM) -> Step:
    return lambda method, tokens, number: getattr(model, method)(tokens, torch.tensor([number]))


def captured(program: Program) -> Step:
    state: dict[str, Tensor] = {}

    def call(method: str, tokens: Tensor, number: int) -> Tensor:
        result = execute(program.methods[method], (tokens, torch.tensor([number])), state=dict(state))
        state.update(result.state)
        return result.outputs[0]

    return call


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", TINY, indirect=True)
def test_prompt_and_steps_equal_transformers(case: Case, dtype: torch.dtype) -> None:
    reference, model = copy.deepcopy(case.reference).to(dtype), copy.deepcopy(case.model).to(dtype)
    tokens = case.tokens()
    with InFloat64() if dtype == torch.float64 else nullcontext():
        expected = reference(input_ids=tokens).logits
        assert expected.dtype == dtype
        assert relative_error([model(tokens)], [expected]) < TOLERANCE[dtype]
        found = stepped(tokens, eager(model))
    assert relative_error([found], [expected[:, PROMPT - 1 :]]) < TOLERANCE[dtype]


@pytest.mark.parametrize("case", CAPTURED, indirect=True)
def test_captured_prompt_and_steps_equal_transformers(case: Case) -> None:
    program, tokens = case.program, case.tokens()
    assert program.methods["prefill"].mutated() == program.methods["decode"].mutated()
    expected = case.reference(input_ids=tokens).logits[:, PROMPT - 1 :]
    assert relative_error([stepped(tokens, captured(program))], [expected]) < TOLERANCE[torch.float32]


@pytest.mark.slow
@pytest.mark.parametrize("case", TINY, indirect=True)
def test_captured_prompt_and_steps_equal_transformers_in_float64(case: Case) -> None:
    tokens = case.tokens()
    with InFloat64():
        expected = copy.deepcopy(case.reference).double()(input_ids=tokens).logits[:, PROMPT - 1 :]
    found = stepped(tokens, captured(case.program.to(torch.float64)))
    assert relative_error([found], [expected]) < TOLERANCE[torch.float64]


@pytest.mark.slow
@pytest.mark.parametrize("case", TINY, indirect=True)
def test_forward_takes_any_length(case: Case) -> None:
    program = capture(case.model, case.built.args, dynamic_shapes=case.built.dynamic_shapes)
    for count in (2, 5, 40):
        tokens = case.tokens(count)
        found = execute(program.methods["forward"], (tokens,)).outputs
        assert relative_error(found, [case.reference(input_ids=tokens).logits]) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("case", TINY, indirect=True)
def test_every_buffer_of_state_matters_and_a_prompt_resets_it(case: Case) -> None:
    model, tokens = copy.deepcopy(case.model), case.tokens(PROMPT + 1)
    call = eager(model)
    expected = stepped(tokens, call)
    state = {name: buffer.clone() for name, buffer in model.state.named_buffers()}
    assert relative_error([stepped(tokens, call)], [expected]) == 0
    for name in state:
        model.state.load_state_dict(state)
        model.state.get_buffer(name).zero_()
        again = call("decode", tokens[:, -1:], PROMPT + 1)
        model.state.load_state_dict(state)
        assert relative_error([again], [call("decode", tokens[:, -1:], PROMPT + 1)]) > STATE_SHOWS, name


@pytest.mark.parametrize("case", TINY, indirect=True)
def test_padding_leaves_no_trace(case: Case) -> None:
    model, tokens = copy.deepcopy(case.model), case.tokens(16)
    call = eager(model)
    states: list[dict[str, Tensor]] = []
    for padding in (3, 42):
        padded = tokens.clone()
        padded[:, PROMPT:] = padding
        call("prefill", padded, PROMPT)
        states.append({name: buffer.clone() for name, buffer in model.state.named_buffers()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_windowed_attention_keeps_no_more_than_its_window() -> None:
    name = "causal-lm/recurrent-gemma-tiny"
    model = registry.family("causal-lm").build(name).module
    assert isinstance(model, CausalLM)
    window = LAYOUTS[name].config["attention_window_size"]
    assert model.state.get_buffer("layer_2.keys").shape[2] == window < PROMPT + STEPS


@pytest.mark.parametrize(
    ("name", "millions"),
    [("falcon-h1-0.5b", 521), ("lfm2-350m", 354), ("mamba2-130m", 129), ("recurrent-gemma-2b", 2683)],
)
def test_the_makers_sizes_have_the_parameters_they_publish(name: str, millions: int) -> None:
    layout = LAYOUTS[f"causal-lm/{name}"]
    config = transformers_class(f"{layout.prefix}Config")(**layout.config)
    with torch.device("meta"):
        model = transformers_class(f"{layout.prefix}ForCausalLM")(config)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_a_resolution_is_refused() -> None:
    with pytest.raises(CaptureError, match="resolution 48: it reads tokens, not images; leave --resolution out"):
        registry.family("causal-lm").build("causal-lm/lfm2-tiny", resolution=48)
