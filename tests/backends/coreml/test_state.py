"""Written buffers as Core ML state: several steps, names, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import hycompile as hy
from hycompile.backends.coreml import Coreml, convert
from hycompile.backends.coreml.interpreter import Machine
from hycompile.backends.coreml.package import load_functions
from hycompile.capture import Call
from hycompile.errors import Unsupported
from hycompile.program import Method, Program, Step
from hycompile.prove import prove

RUN_HERE = ("read_state", "coreml_update_state")


class Keys(nn.Module):
    keys: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 4, width))


class Cache(nn.Module):
    """A recurrence and a key cache written at a position, as a decode step has them."""

    hidden: Tensor

    def __init__(self, width: int = 32, start: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.mix, self.inner = nn.Linear(width, width), Keys(width)
        self.register_buffer("hidden", torch.full((1, width), start, dtype=dtype))

    def forward(self, token: Tensor, position: Tensor) -> Tensor:
        hidden = torch.tanh(self.mix(token) + 0.5 * self.hidden)
        here = (torch.arange(4) == position)[None, :, None]
        keys = torch.where(here, hidden[:, None], self.inner.keys)
        self.hidden.copy_(hidden)
        self.inner.keys.copy_(keys)
        return torch.softmax(keys @ hidden[0], -1) @ keys

    def reset(self, token: Tensor) -> Tensor:
        self.hidden.copy_(torch.zeros_like(self.hidden))
        return self.hidden + token


def _program(model: nn.Module, width: int = 32) -> Program:
    torch.manual_seed(0)
    return hy.capture(model.eval(), (torch.randn(1, width), torch.tensor(1)))


def test_three_steps_match_with_state(lower_coreml: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    program = _program(Cache())
    artifact = lower_coreml(program, precision="fp16")
    assert artifact.manifest.facts["states"] == {"hidden": "hidden", "inner_keys": "inner.keys"}
    machine = Machine(load_functions(artifact.file("model"))["main"], "main")
    assert set(RUN_HERE) <= set(machine.operations)
    session = Coreml().open(artifact)
    assert set(session.state()) == {"hidden", "inner.keys"}
    assert all(not value.any() for value in session.state().values())
    assert prove(session, program) < 5e-3
    assert all(value.any() for value in session.state().values())


def test_state_as_arguments_keeps_float32(lower_coreml: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    token = torch.randn(1, 32)
    calls = {"step": Call((token, torch.tensor(1))), "reset": Call((token,), function="reset")}
    script = [Step("step", (token, torch.tensor(at))) for at in range(3)]
    script += [Step("reset", (token,)), Step("step", (token, torch.tensor(3)))]
    program = hy.capture(Cache().eval(), methods=calls, script=script)
    artifact = lower_coreml(program, precision="fp32", state="arguments")
    facts = artifact.manifest.facts
    assert facts["states"] == {}
    assert facts["state_bytes"] == 4 * (32 + 4 * 32)
    assert set(facts["state_arguments"]["step"]["outputs"].values()) == {"hidden", "inner.keys"}
    for given in facts["state_arguments"].values():
        # A manifest's file sorts names: their order says nothing.
        given["outputs"] = dict(reversed(given["outputs"].items()))
    session = Coreml().open(artifact)
    assert prove(session, program) < 1e-6
    assert set(session.state()) == {"hidden", "inner.keys"}
    assert not any(value.any() for value in Coreml().open(artifact).state().values())


def test_state_as_arguments_suits_older_systems(lower_coreml: Callable[..., Any]) -> None:
    program = _program(Cache())
    session = Coreml().open(lower_coreml(program, precision="fp16", state="arguments", deployment_target="iOS16"))
    assert prove(session, program) < 5e-3


def test_a_transposed_buffer_is_an_argument(lower_coreml: Callable[..., Any]) -> None:
    class Transposed(nn.Module):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(3, 4).t())

        def forward(self, x: Tensor) -> Tensor:
            self.seen.copy_(self.seen + x)
            return self.seen.sum(0)

    program = hy.capture(Transposed().eval(), (torch.randn(4, 3),))
    assert prove(Coreml().open(lower_coreml(program, precision="fp32", state="arguments")), program) < 1e-6


def test_a_new_session_starts_over(lower_coreml: Callable[..., Any]) -> None:
    program = _program(Cache())
    artifact = lower_coreml(program, precision="fp16")
    inputs = program.methods["forward"].flat_inputs()
    session = Coreml().open(artifact)
    first, second = session.run(inputs)[0], session.run(inputs)[0]
    assert not torch.equal(first, second)
    assert torch.equal(Coreml().open(artifact).run(inputs)[0], first)


def test_a_lost_write_is_refused(lower_coreml: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard itself: a conversion in which one of two buffers is never written."""
    export = convert.legal_export

    def forgetful(legal: Method) -> ExportedProgram:
        exported = export(legal)
        output, specs = exported.graph.output_node(), exported.graph_signature.output_specs
        (lost,) = (index for index, spec in enumerate(specs) if spec.target == "hidden")
        del specs[lost]
        results: Any = output.args[0]
        output.args = (tuple(value for index, value in enumerate(results) if index != lost),)
        return exported

    monkeypatch.setattr(convert, "legal_export", forgetful)
    with pytest.raises(Unsupported, match="state 'hidden' of method 'forward': coremltools dropped its write"):
        lower_coreml(_program(Cache()), precision="fp16")


def test_methods_share_state(lower_coreml: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    token = torch.randn(1, 32)
    calls = {"step": Call((token, torch.tensor(1))), "reset": Call((token,), function="reset")}
    program = hy.capture(Cache().eval(), methods=calls)
    session = Coreml().open(lower_coreml(program, precision="fp16"))
    session.run((token, torch.tensor(1)), "step")
    assert session.state()["hidden"].any()
    session.run((token,), "reset")
    assert not session.state()["hidden"].any()


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (Cache(), {"precision": "fp32"}, "Core ML state is float16, which rounds what float32 promises to keep"),
        (
            Cache(),
            {"precision": "fp16", "deployment_target": "iOS17"},
            "state needs iOS18 or macOS15, the target is iOS17",
        ),
        (Cache(start=1.0), {"precision": "fp16"}, "Core ML state starts at zero, this buffer does not"),
    ],
)
def test_state_refused(
    model: nn.Module, options: dict[str, str], reason: str, lower_coreml: Callable[..., Any]
) -> None:
    with pytest.raises(Unsupported, match=rf"state hidden at test_state.py:\d+ in forward: {reason}"):
        lower_coreml(_program(model), **options)


class Counter(nn.Module):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x * self.count


def test_integer_state_is_refused(lower_coreml: Callable[..., Any]) -> None:
    program = hy.capture(Counter().eval(), (torch.randn(2),))
    with pytest.raises(Unsupported, match=r"state count.*float16, which cannot hold torch.int64; pass it as an input"):
        lower_coreml(program, precision="fp16")


def test_odd_width_is_a_hint_about_the_neural_engine(coreml_target: Callable[..., Any]) -> None:
    obstacles = Coreml().obstacles(_program(Cache(20), 20), coreml_target("fp16"))
    assert [(obstacle.operator, obstacle.fatal) for obstacle in obstacles] == [
        ("state hidden", False),
        ("state inner.keys", False),
    ]
    assert obstacles[0].reason.endswith("no multiple of 32; this one has 20")
    assert not Coreml().obstacles(_program(Cache()), coreml_target("fp16"))


def test_padded_state_computes_the_same(lower_coreml: Callable[..., Any]) -> None:
    """Two methods, one of which only resets, over state that the package holds wider than the model."""
    torch.manual_seed(0)
    token = torch.randn(1, 20)
    calls = {"step": Call((token, torch.tensor(1))), "reset": Call((token,), function="reset")}
    program = hy.capture(Cache(20).eval(), methods=calls)
    artifact = lower_coreml(program, precision="fp16", pad_states=True)
    assert artifact.manifest.facts["state_widths"] == {"hidden": 20, "inner.keys": 20}
    assert artifact.manifest.facts["state_bytes"] == 2 * (32 + 4 * 32)
    assert "Neural Engine" in artifact.manifest.facts["padded_states"]
    session = Coreml().open(artifact)
    assert session.state()["inner.keys"].shape == (1, 4, 20)
    assert prove(session, program) < 5e-3
    assert any(value.any() for value in session.state().values())


def test_padded_state_is_no_obstacle(coreml_target: Callable[..., Any]) -> None:
    assert not Coreml().obstacles(_program(Cache(20), 20), coreml_target("fp16", pad_states=True))
