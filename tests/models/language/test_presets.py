"""Every preset computes the same as a whole, as prompt and steps, in chunks, and after capture and lowering."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from hycompile import registry
from hycompile.capture import capture
from hycompile.errors import CaptureError
from hycompile.models.language.decoder import Decoder
from hycompile.models.language.family import build_plan
from hycompile.models.language.presets import PLANS
from hycompile.parity import execute, relative_error
from hycompile.pipeline import Pipeline
from hycompile.program import Program

TINY = sorted(name for name in PLANS if name.endswith("-tiny"))
# Long ones of the study differ from the short ones in their number of equal layers.
QUICK_EAGER = [name for name in TINY if not name.startswith("study-") or "-3-1-" in name]
# Capturing takes seconds: the others are slow tests.
QUICK = {"sambay-tiny", "mamba-2-hybrid-tiny"}
CAPTURED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
EAGER = [name if name in QUICK_EAGER else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
PROMPT, PADDED, STEPS = 11, 16, 64
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
Step = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def model_of(name: str) -> Decoder:
    module = build_plan(PLANS[name]).module
    assert isinstance(module, Decoder)
    return module


def tokens_for(model: Decoder, count: int = PROMPT + STEPS) -> Tensor:
    return torch.randint(model.plan.vocabulary, (1, count), generator=torch.Generator().manual_seed(7))


def stepped(tokens: Tensor, call: Step) -> Tensor:
    """Logits of every token from the prompt's last on: a prompt with padding, then token by token."""
    padded = torch.full((1, PADDED), 5)
    padded[:, :PROMPT] = tokens[:, :PROMPT]
    steps = [call("prefill", padded, torch.tensor([PROMPT]))]
    steps += [call("decode", tokens[:, at : at + 1], torch.tensor([at])) for at in range(PROMPT, tokens.shape[1])]
    return torch.cat(steps, 1)


def eager(model: Decoder) -> Step:
    return lambda method, *inputs: getattr(model, method)(*inputs)


def captured(program: Program) -> Step:
    state: dict[str, Tensor] = {}

    def call(method: str, *inputs: Tensor) -> Tensor:
        result = execute(program.methods[method], inputs, state=dict(state))
        state.update(result.state)
        return result.outputs[0]

    return call


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("name", EAGER)
def test_prompt_and_steps_equal_the_whole(name: str, dtype: torch.dtype) -> None:
    model = model_of(name).to(dtype)
    tokens = tokens_for(model)
    expected = model(tokens)[:, PROMPT - 1 :]
    assert relative_error([stepped(tokens, eager(model))], [expected]) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_and_lowered_programs_equal_the_whole(name: str) -> None:
    model = model_of(name)
    program = capture(model, methods=build_plan(PLANS[name]).methods).to(torch.float64)
    tokens = tokens_for(model)
    expected = copy.deepcopy(model).double()(tokens)[:, PROMPT - 1 :]
    assert relative_error([stepped(tokens, captured(program))], [expected]) < TOLERANCE[torch.float64]
    lowered, _ = Pipeline.parse("normalise,lower-scans")(program, prove=False)
    assert relative_error([stepped(tokens, captured(lowered))], [expected]) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", [name for name in TINY if PLANS[name].chunked])
def test_a_prompt_in_chunks_equals_the_whole(name: str) -> None:
    """Windows are left, rings wrap around, and the last chunk has padding."""
    model = model_of(name).double()
    tokens = tokens_for(model, 40)
    expected = model(tokens)
    model.prefill(tokens[:, :16], torch.tensor([16]))
    assert model.extend(tokens[:, 16:32], torch.tensor([16]), torch.tensor([16])).tolist() == [32]
    last = torch.full((1, 16), 9)
    last[:, :7] = tokens[:, 32:39]
    found = [model.finish(last, torch.tensor([32]), torch.tensor([7]))]
    found.append(model.decode(tokens[:, 39:], torch.tensor([39])))
    assert relative_error([torch.cat(found, 1)], [expected[:, 38:]]) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", ["sambay-tiny", "gdny-tiny", "mamba-2-hybrid-tiny"])
def test_rows_of_a_batch_are_texts_of_their_own(name: str) -> None:
    model = model_of(name).double()
    tokens = tokens_for(model, 40).reshape(2, 20)
    found = model(tokens)
    assert relative_error([found], [torch.cat([model(row[None]) for row in tokens])]) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", QUICK_EAGER)
def test_every_buffer_of_state_matters_and_a_prompt_resets_it(name: str) -> None:
    model = model_of(name)
    tokens, call = tokens_for(model, 20), eager(model)
    expected = stepped(tokens, call)
    assert relative_error([stepped(tokens, call)], [expected]) == 0
    state = {key: value.clone() for key, value in model.named_buffers() if key.startswith("state_")}
    assert state
    expected = call("decode", tokens[:, :1], torch.tensor([20]))
    for emptied in state:
        model.load_state_dict(state, strict=False)
        model.get_buffer(emptied).zero_()
        assert relative_error([call("decode", tokens[:, :1], torch.tensor([20]))], [expected]) > 1e-4, emptied


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("sambay-40m", 41),
        ("phi-4-mini-flash", 3853),
        ("phi-4-mini-flash-fifth", 155),
        ("samba-1.7b", 1703),
        ("yoco-3b", 2850),
        ("mamba-2-hybrid-8b", 8660),
    ],
)
def test_published_plans_have_the_parameters_they_should(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = Decoder(PLANS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_phi_4_mini_flash_has_its_published_layers() -> None:
    mixers = [layer for layer in PLANS["phi-4-mini-flash"].layers if layer.kind != "mlp"]
    kinds = [layer.kind for layer in mixers]
    assert [index for index, layer in enumerate(mixers) if layer.gives] == [16, 17]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "mamba1": 9,
        "diff-window": 8,
        "diff-full": 1,
        "gmu": 7,
        "diff-cross": 7,
    }


def test_state_shrinks_by_each_attention_that_becomes_a_state_space() -> None:
    """The cache goes with its attention; a state space's state does not depend on the context."""
    sizes: list[int] = []
    for spaces in (25, 30, 40):
        with torch.device("meta"):
            model = Decoder(PLANS[f"apriel-h1-15b-{spaces}"])
        sizes.append(sum(value.numel() for key, value in model.named_buffers() if key.startswith("state_")))
    assert (sizes[1] - sizes[0]) * 2 == sizes[2] - sizes[1] < 0


def test_a_resolution_is_refused() -> None:
    with pytest.raises(CaptureError, match="resolution 48: it reads tokens, not images; leave --resolution out"):
        registry.family("language").build("language/sambay-tiny", resolution=48)


def test_trained_weights_know_their_text() -> None:
    """A verse that is in the corpus: far below the 7.6 nats a token of knowing nothing."""
    from tokenizers import Tokenizer

    from hycompile.models.language.trained import folder

    found = folder("sambay-kjv")
    assert found is not None
    family = registry.family("language")
    assert family.describe("language/sambay-kjv").pretrained
    model = family.build("language/sambay-kjv").module
    text = "In the beginning God created the heaven and the earth."
    tokens = torch.tensor([Tokenizer.from_file(str(found / "tokenizer.json")).encode(text).ids])
    loss = torch.nn.functional.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:])
    assert loss < 2.5
