"""State in a library: explicit in its functions, kept by the session, shared by methods."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.attributes import put_tensor
from hycompile.backends.tvm import Tvm
from hycompile.capture import capture
from hycompile.errors import ArtifactError, Unsupported
from hycompile.explicit_state import make_explicit, state_of
from hycompile.parity import execute, relative_error
from hycompile.program import Program

Build = Callable[..., Artifact]
Copy = Callable[[Artifact], Artifact]
TOLERANCE = 1e-5


def test_steps_follow_the_program(build: Build, memory: Program) -> None:
    session = Tvm().open(build(memory), threads=1)
    state = {name: value.clone() for name, value in session.state().items()}
    assert set(state) == {"samples", "cache", "step"}
    for method in ("forward", "forward", "reset", "forward"):
        inputs = (torch.randn(1, 4, 8),)
        expected = execute(memory.methods[method], inputs, state=state)
        state = {**state, **expected.state}
        assert relative_error(session.run(inputs, method), expected.outputs) < TOLERANCE
        for name, value in session.state().items():
            assert relative_error([value], [state[name]]) < TOLERANCE, name
    assert int(session.state()["step"]) == 3


def test_weights_are_stored_once_for_both_methods(build: Build, memory: Program) -> None:
    artifact = build(memory)
    assert artifact.manifest.facts["relax_functions"] == 2
    weights = load_file(artifact.file("weights"))
    kernels = [value for value in weights.values() if value.numel() == 4 * 16]
    assert len(kernels) == 1


def test_what_no_template_takes_keeps_its_loops_and_is_counted(build: Build, memory: Program) -> None:
    left: dict[str, int] = build(memory).manifest.facts["left_alone"]  # type: ignore[assignment]
    assert sum(left.values()) == 1, "the write into the cache is a scatter"
    assert all("block" in reason for reason in left)


def test_results_stay_what_they_were(build: Build, memory: Program) -> None:
    session = Tvm().open(build(memory))
    first = session.run([torch.randn(1, 4, 8)])
    kept = [value.clone() for value in first]
    snapshot = session.state()["cache"].clone()
    session.state()["cache"].zero_()
    assert torch.equal(session.state()["cache"], snapshot)
    session.run([torch.randn(1, 4, 8)])
    assert all(torch.equal(value, copy) for value, copy in zip(first, kept, strict=True))


def test_profiling_leaves_state_alone(build: Build, memory: Program) -> None:
    session = Tvm().open(build(memory))
    before = session.state()
    session.profile([torch.randn(1, 4, 8)], runs=2)
    assert all(torch.equal(value, before[name]) for name, value in session.state().items())


def test_truncated_state_is_refused(build: Build, memory: Program, own_copy: Copy) -> None:
    artifact = own_copy(build(memory))
    path = artifact.file("state")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match=r"state\.safetensors: cannot be read"):
        Tvm().open(artifact)


def test_a_constant_view_of_state_is_refused(memory: Program) -> None:
    """A rewrite may leave one behind; it would keep the first value for ever."""
    method = memory.copy().methods["forward"]
    put_tensor(method.graph, "mix.weight", method.graph.get_buffer("cache")[0, :4].t())
    with pytest.raises(Unsupported, match=r"state 'cache': constant 'mix\.weight' is a view of it"):
        make_explicit(method, state_of(Program("memory", {"forward": method})))


def test_a_write_to_part_of_a_buffer_is_refused(memory: Program) -> None:
    """The front end takes it for a value nobody needs; capture leaves none, but a rewrite may."""
    method = memory.copy().methods["forward"]
    graph = method.graph.graph
    (write,) = (node for node in graph.nodes if node.name.startswith("copy") and node.args[0].target == "samples")
    with graph.inserting_before(write):
        part = graph.call_function(torch.ops.aten.select.int, (write.args[0], 1, 0))
        row = graph.call_function(torch.ops.aten.select.int, (write.args[1], 1, 0))
    write.args = (part, row)
    with pytest.raises(Unsupported, match=r"write 'copy_\w*' to select\w*: it is no whole buffer"):
        make_explicit(method, state_of(Program("memory", {"forward": method})))


class Counter(nn.Module):
    """Returns the very buffer it writes."""

    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.step.add_(x)
        return self.step


def test_a_returned_buffer_shows_the_new_value(build: Build) -> None:
    session = Tvm().open(build(capture(Counter().eval(), (torch.ones(2),), name="counter")))
    for expected in (1.0, 2.0):
        (step,) = session.run([torch.ones(2)])
        assert step.tolist() == [expected, expected]
        step.zero_()
        assert session.state()["step"].tolist() == [expected, expected]
