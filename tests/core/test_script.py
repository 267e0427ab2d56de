"""Scripts: kept, converted, refused where they do not fit, on disk, and followed by both proofs."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from hycompile.capture import Call, capture
from hycompile.compile import load_program
from hycompile.errors import CaptureError, ParityError
from hycompile.parity import Proof, play
from hycompile.program import Program, Step
from hycompile.prove import prove
from hycompile.script import brief, checked, steps
from tests.core.archives import refused

FEED = 5


class Running(nn.Module):
    """``start`` sets a total, ``feed`` adds a value to row ``place`` of it, ``peek`` only scales."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def start(self, x: Tensor) -> Tensor:
        self.total.copy_(x)
        return x + 0

    def feed(self, x: Tensor, place: Tensor) -> Tensor:
        self.total.copy_(self.total.index_add(0, place, x))
        return self.total * 2

    def peek(self, x: Tensor) -> Tensor:
        return x.sum(1) * 3


def _script(dtype: torch.dtype = torch.float32) -> list[Step]:
    feeds = [Step("feed", (torch.tensor([n + 1.0], dtype=dtype), torch.tensor([n % 3]))) for n in range(FEED)]
    return [Step("start", (torch.ones(3, dtype=dtype),)), *feeds]


@functools.cache
def _captured() -> Program:
    calls = {
        "start": Call((torch.ones(3),), function="start"),
        "feed": Call((torch.ones(1), torch.tensor([0])), function="feed"),
        "peek": Call((torch.ones(2, 4),), dynamic_shapes=({0: Dim("n", min=2, max=6)},), function="peek"),
    }
    return capture(Running().eval(), methods=calls, script=_script())


def _program(script: Sequence[Step] | None = None) -> Program:
    program = _captured()
    return program if script is None else replace(program, script=checked(script, program.methods))


class Eager:
    """A runtime that is the model itself; ``lose`` is a call, counted from 0, whose write is lost."""

    def __init__(self, lose: int | None = None) -> None:
        self.model, self.lose, self.calls = Running(), lose, list[str]()

    def run(self, inputs: Sequence[Tensor], method: str = "forward") -> tuple[Tensor, ...]:
        before = self.model.total.clone()
        with torch.no_grad():
            output = getattr(self.model, method)(*inputs)
        if len(self.calls) == self.lose:
            self.model.total.copy_(before)
        self.calls.append(method)
        return (output,)

    def state(self) -> dict[str, Tensor]:
        return {"total": self.model.total}

    def profile(self, inputs: Sequence[Tensor], runs: int = 8) -> None:
        return None


def test_steps_are_the_script_and_draws_of_what_it_does_not_name() -> None:
    assert [step.method for step in steps(_program())] == ["start", *["feed"] * FEED, *["peek"] * 3]
    assert [step.method for step in steps(_program(()))] == [*["start"] * 3, *["feed"] * 3, *["peek"] * 3]


def test_copies_keep_it_and_conversions_convert_it() -> None:
    program = _program()
    assert program.copy().script is program.script
    double = program.to(torch.float64).script
    assert [value.dtype for value in double[1].inputs] == [torch.float64, torch.int64]
    assert torch.equal(double[1].inputs[0], program.script[1].inputs[0].double())
    assert program.script[1].inputs[0].dtype == torch.float32


def test_it_is_no_part_of_the_digest() -> None:
    assert _program().digest == _program(()).digest


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step("fed", ()), "script step 1 ('fed'): the model has no such method; its methods are start, feed, peek"),
        (
            Step("feed", (torch.ones(1),)),
            "script step 1 ('feed'): gives 1 inputs, the method takes 2 (x, place); "
            "give a tensor for each, flat, in this order",
        ),
        (
            Step("feed", (torch.ones(1), torch.tensor([0], dtype=torch.int32))),
            "script step 1 ('feed'), input 'place': is int32[1], the method takes int64[1]; "
            "give it in the type and shape that the method was captured with",
        ),
        (Step("start", (torch.ones(4),)), "script step 1 ('start'), input 'x': is float32[4], the method takes"),
        (Step("start", (torch.ones(3, 1),)), "script step 1 ('start'), input 'x': is float32[3, 1], the method takes"),
        (Step("start", (3,)), "script step 1 ('start'), input 'x': is a int, the method takes float32[3]"),
        (Step("peek", (torch.ones(7, 4),)), "script step 1 ('peek'), input 'x': is float32[7, 4], the method takes"),
    ],
)
def test_what_does_not_fit_is_refused(step: Step, message: str) -> None:
    with pytest.raises(CaptureError) as caught:
        _program([_script()[0], step])
    assert str(caught.value).startswith(message)


def test_dynamic_sizes_fit_within_their_bounds_and_agree() -> None:
    assert len(_program([Step("peek", (torch.ones(6, 4),))]).script) == 1

    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    shape, examples = {0: Dim("n", min=2, max=9)}, (torch.ones(3), torch.ones(3))
    methods = capture(Sum().eval(), examples, dynamic_shapes=(shape, shape)).methods
    assert checked([Step("forward", (torch.ones(5), torch.ones(5)))], methods)
    with pytest.raises(CaptureError, match=r"input 'y': is float32\[6\]"):
        checked([Step("forward", (torch.ones(5), torch.ones(6)))], methods)


def test_capture_refuses_it_too() -> None:
    with pytest.raises(CaptureError, match=r"script step 0 \('decode'\): the model has no such method"):
        capture(nn.Linear(2, 2).eval(), (torch.ones(1, 2),), script=[Step("decode", ())])


def test_file(tmp_path: Path) -> None:
    program = _program()
    program.save(tmp_path / "p.hyc")
    loaded = capture(tmp_path / "p.hyc")
    assert [step.method for step in loaded.script] == [step.method for step in program.script]
    for mine, theirs in zip(loaded.script, program.script, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.inputs, theirs.inputs, strict=True))
    _program(()).save(tmp_path / "q.hyc")
    assert capture(tmp_path / "q.hyc").script == ()


def _edit(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _index(script: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["program.json"] = json.dumps(json.loads(members["program.json"]) | {"script": script}).encode()

    return change


def _truncate(members: dict[str, bytes]) -> None:
    members["script.safetensors"] = members["script.safetensors"][:40]


def _remove(members: dict[str, bytes]) -> None:
    del members["script.safetensors"]


@pytest.mark.parametrize(
    "change", [_truncate, _remove, _index(3), _index([3]), _index([["start", 2]]), _index([["start", "x"]])]
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    _program().save(tmp_path / "p.hyc")
    assert refused(_edit(tmp_path / "p.hyc", change)).reason.startswith("a damaged program archive (")


def test_a_file_with_a_script_for_another_model_is_refused(tmp_path: Path) -> None:
    _program().save(tmp_path / "p.hyc")
    with pytest.raises(CaptureError, match=r"p\.hyc, script step 0 \('stop'\): the model has no such method; save it"):
        capture(_edit(tmp_path / "p.hyc", _index([["stop", 1]])))


def test_the_models_family_gives_it() -> None:
    program = load_program("causal-lm/lfm2-tiny")
    assert [step.method for step in program.script] == ["prefill", *["decode"] * 64]
    count = int(program.script[0].inputs[1])
    assert [int(step.inputs[1]) for step in program.script[1:]] == list(range(count, count + 64))
    assert len({int(step.inputs[0]) for step in program.script[1:]}) > 20


def test_an_artifact_is_proved_along_it() -> None:
    session = Eager()
    assert prove(session, _program()) == 0.0
    assert session.calls == ["start", *["feed"] * FEED, *["peek"] * 3]
    # The last write shows in the final state only, those before it in the next output.
    assert all(prove(Eager(lose), _program()) > 0.05 for lose in range(1 + FEED))


def test_play_carries_the_state_on() -> None:
    program = _program()
    last = list(play(program, program.script))[-1]
    assert last.state["total"].tolist() == [1 + 1 + 4, 1 + 2 + 5, 1 + 3]
    assert last.outputs[0].tolist() == [12, 16, 8]
    assert not program.tensors()["total"].any()


def test_rewrites_are_proved_along_its_beginning() -> None:
    program = _program()
    assert [[step.method for step in run] for run in brief(program)] == [["start", *["feed"] * 3], ["peek"]]
    proof = Proof(program)
    assert proof.check(program.copy(), "none") == 0.0
    # From the captured state, which is zero, this change of one method cannot be seen.
    wrong = program.copy()
    graph = wrong.methods["feed"].graph.graph
    (read,) = graph.find_nodes(op="get_attr")
    with graph.inserting_after(read):
        halved = graph.call_function(torch.ops.aten.mul.Tensor, (read, 0.5))
    for user in list(read.users):
        if user is not halved and user.target is torch.ops.aten.index_add.default:
            user.replace_input_with(read, halved)
    wrong.methods["feed"].graph.recompile()
    assert Proof(_program(())).check(wrong, "unseen") == 0.0
    with pytest.raises(ParityError, match="at feed, "):
        proof.check(wrong, "pass p, rule r")
