"""State becomes inputs and outputs of the model, and the session carries it from call to call."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.attributes import put_tensor
from hycompile.backends.onnx import Onnx
from hycompile.backends.onnx.signature import explicit, shared_state
from hycompile.backends.onnx.translate import translate
from hycompile.capture import capture
from hycompile.errors import Unsupported
from hycompile.parity import relative_error
from hycompile.program import Program
from hycompile.quiet import quiet_torch

Build = Callable[..., Artifact]
Stateful = Callable[..., tuple[nn.Module, Program]]
EXACT = 1e-5


def compare(artifact: Artifact, module: nn.Module, calls: list[str], allowed: float = EXACT) -> None:
    """Make the same calls of the artifact and of the module itself; hold outputs and state together after each."""
    session = Onnx().open(artifact, threads=1)
    for method in calls:
        x = torch.randn(1, 4)
        with torch.no_grad():
            returned = getattr(module, method)(x)
        outputs = list(returned) if isinstance(returned, tuple) else [returned]
        assert relative_error(session.run([x], method), outputs) < allowed, method
        state, buffers = session.state(), dict(module.named_buffers())
        assert relative_error([state[name] for name in state], [buffers[name] for name in state]) < allowed, method


def test_the_stock_exporter_forgets_state(recurrent: Stateful) -> None:
    """The reason for all of this: no error, no warning, and a model with one input and no memory."""
    _, program = recurrent()
    with quiet_torch():
        stock = torch.onnx.export(program.methods["forward"].export(), dynamo=True, verbose=False)
    assert stock is not None
    assert len(stock.model.graph.inputs) == 1
    assert len(stock.model.graph.outputs) == 2


def test_state_is_in_the_signature(build: Build, recurrent: Stateful) -> None:
    _, program = recurrent()
    artifact = build(program)
    graph = onnx.load(str(artifact.file("model"))).graph
    names = set(program.methods["forward"].mutated())
    assert names == {"decayed", "cache", "step"}
    assert {value.name for value in graph.input} == {"x"} | {f"state.{name}" for name in names}
    assert {value.name for value in graph.output[2:]} == {f"state.{name}.out" for name in names}
    assert set(artifact.manifest.facts["state"]) == names  # type: ignore[call-overload]


def test_several_steps(build: Build, recurrent: Stateful) -> None:
    module, program = recurrent()
    compare(build(program), module, ["forward"] * 4)


def test_half_precision_state(build: Build, recurrent: Stateful) -> None:
    module, program = recurrent()
    artifact = build(program, precision="fp16")
    assert Onnx().open(artifact).state()["decayed"].dtype == torch.float16
    compare(artifact, module, ["forward"] * 3, allowed=5e-3)


def test_methods_share_state(build: Build, recurrent: Stateful) -> None:
    module, program = recurrent("peek", "reset")
    artifact = build(program)
    assert set(artifact.manifest.files) == {"model", "peek", "reset", "state"}
    peek = onnx.load(str(artifact.file("peek"))).graph
    (given,) = program.methods["peek"].input_names()
    assert [value.name for value in peek.input] == [given, "state.decayed"]
    assert len(peek.output) == 1
    compare(artifact, module, ["forward", "peek", "reset", "peek", "forward", "peek"])


def test_sessions_are_apart_and_profiling_leaves_state_alone(build: Build, recurrent: Stateful) -> None:
    _, program = recurrent()
    artifact = build(program)
    first, second = Onnx().open(artifact), Onnx().open(artifact)
    x = torch.randn(1, 4)
    first.run([x])
    first.profile([x], runs=2)
    assert first.state()["step"] == 1
    assert second.state()["step"] == 0


class Copying(nn.Module):
    """Stores its input, and returns what was stored before."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        before = self.last.clone()
        self.last.copy_(x)
        return before


def test_state_that_is_an_input_itself(build: Build) -> None:
    session = Onnx().open(build(capture(Copying().eval(), (torch.randn(3),))))
    first, second = torch.randn(3), torch.randn(3)
    assert torch.equal(session.run([first])[0], torch.zeros(3))
    assert torch.equal(session.run([second])[0], first)
    assert torch.equal(session.state()["last"], second)


def test_a_constant_view_of_state_is_refused(recurrent: Stateful) -> None:
    """A rewrite may leave one behind; frozen at its first value it would be wrong from the second step on."""
    _, program = recurrent()
    method = program.methods["forward"]
    put_tensor(method.graph, "mix.weight", method.graph.get_buffer("cache")[:4])
    with pytest.raises(Unsupported, match=r"state 'cache': constant 'mix\.weight' is a view of it"):
        explicit(method, method, shared_state(program))


def test_a_lost_write_is_refused(recurrent: Stateful) -> None:
    """The guard itself: hide a buffer from the signature, and its write must not vanish."""
    _, program = recurrent()
    method, state = program.methods["forward"], shared_state(program)
    signature = explicit(method, method, state)
    exported = method.copy().graph
    exported.graph.set_codegen(signature.module.graph._codegen)  # pyright: ignore[reportPrivateUsage]
    hidden = type(signature)(exported, signature.args[:1], ({},), signature.sizes[:1], ("x",), signature.outputs[:2])
    with pytest.raises(Unsupported, match="dropped the writes"):
        translate(hidden, 18)
