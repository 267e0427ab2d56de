"""Pipelines as text and as objects, options, promises, and passes that forget to check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from hycompile import registry
from hycompile.builder import Value, call
from hycompile.capture import capture
from hycompile.errors import ParityError, PassError
from hycompile.options import make_pass
from hycompile.pattern import Any, Call
from hycompile.pipeline import Check, Pass, Pipeline, RulePass
from hycompile.program import Program
from hycompile.reports import PassReport, RuleReport
from hycompile.rewrite import Rule, rule
from tests.support import captured, count


class Quiet(Pass):
    def run(self, program: Program, check: Check) -> list[RuleReport]:
        return []


@dataclass(frozen=True)
class Quantise(Quiet):
    name: ClassVar[str] = "quantise"
    requires: ClassVar[tuple[str, ...]] = ("normalise",)
    bits: int = 8
    ratio: float = 1
    symmetric: bool = False
    scheme: str = "per-channel"


@dataclass(frozen=True)
class Needy(Quiet):
    name: ClassVar[str] = "needy"
    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups is {self.groups}, at least 1 is needed")


@pytest.fixture(autouse=True)
def _passes(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    own = {"quantise": Quantise, "needy": Needy}
    known = registry.pass_class
    monkeypatch.setattr(registry, "pass_class", lambda name: own.get(name) or known(name))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "normalise",
        "normalise,reparameterise",
        "fold-constants{max_growth_bytes=100}",
        "normalise,quantise{bits=4,ratio=0.5,symmetric=true,scheme=per-tensor}",
        'normalise,quantise{scheme="8"},needy{groups=2}',
        'normalise,quantise{scheme="a, {b} \\"c\\" = d"},normalise',
        'normalise,quantise{scheme=""}',
        'normalise,quantise{scheme="true one"}',
    ],
)
def test_text_round_trips(text: str) -> None:
    pipeline = Pipeline.parse(text)
    assert str(pipeline) == text
    assert Pipeline.parse(str(pipeline)) == pipeline


def test_spaces_and_defaults() -> None:
    pipeline = Pipeline.parse(" normalise , quantise { bits = 8 , ratio = 2 } ,")
    assert str(pipeline) == "normalise,quantise{ratio=2.0}"
    assert pipeline.passes[1] == Quantise(ratio=2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a reparameterise", "pipeline 'a reparameterise': cannot be read at 'a reparameterise'; write "),
        ("normalise,,x", "pipeline 'normalise,,x': cannot be read at ',x'; write name,name{option=value}"),
        ("normalise{", "pipeline 'normalise{': cannot be read at 'normalise{'; write name,name{option=value}"),
        ("normalize", "pass 'normalize': not registered; did you mean 'normalise'? known: "),
        ("quantise", "pass 'quantise': needs normalise earlier in the pipeline; write normalise,quantise"),
        ("normalise{x=1}", "pass 'normalise', option 'x=1': not an option of this pass; it takes: none"),
        ("quantise{bits}", "pass 'quantise', option 'bits': not an option of this pass; it takes: bits, ratio, symm"),
        ("quantise{bits=many}", "pass 'quantise', option 'bits=many': not int; give a int, such as 8"),
        ("quantise{bits=4.5}", "pass 'quantise', option 'bits=4.5': not int; give a int, such as 8"),
        ("quantise{bits=true}", "pass 'quantise', option 'bits=true': not int; give a int, such as 8"),
        ("quantise{symmetric=1}", "pass 'quantise', option 'symmetric=1': not bool; give a bool, such as false"),
        ("quantise{ratio=true}", "pass 'quantise', option 'ratio=true': not float; give a float, such as 1"),
        ("quantise{bits=4,bits=5}", "pass 'quantise', option 'bits=5': given twice; give it once"),
        ("needy", "pass 'needy': needs a value for groups; write needy{groups=...}"),
        ("needy{groups=0}", "pass 'needy' with groups=0: groups is 0, at least 1 is needed; choose another value"),
    ],
)  # fmt: skip
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline.parse(text)
    assert str(caught.value).startswith(message)


def test_option_of_a_type_that_has_no_text() -> None:
    @dataclass(frozen=True)
    class Listed(Quiet):
        name: ClassVar[str] = "listed"
        sizes: tuple[int, ...] = ()

    with pytest.raises(PassError, match=r"declared as tuple.*; options are str, int, float or bool"):
        make_pass(Listed, "sizes=3")


def _program() -> Program:
    return captured(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), torch.randn(1, 3, 4, 4))


def test_report_and_progress() -> None:
    seen: list[PassReport] = []
    program, report = Pipeline.parse("normalise,reparameterise")(_program(), progress=seen.append)
    assert report.passes == seen
    assert [done.text for done in seen] == ["normalise", "reparameterise"]
    assert report.pipeline == "normalise,reparameterise"
    fold = next(r for r in seen[1].rules if r.hits)
    assert fold.rule == "fold_batch_norm_into_producer"
    assert fold.error_fp32 is not None
    assert fold.error_fp64 is not None
    assert 0 <= fold.error_fp64 < 1e-14
    assert report.error_fp64 == pytest.approx(fold.error_fp64)
    assert min(report.seconds, *(done.seconds for done in seen)) > 0
    assert count(program, "aten.batch_norm") == 0
    _, unproved = Pipeline.parse("reparameterise")(_program(), prove=False)
    assert (unproved.error_fp64, unproved.error_fp32 is None) == (None, False)


def _replace_relu(program: Program) -> None:
    graph = program.methods["forward"].graph
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.relu.default:
            node.target = torch.ops.aten.abs.default
    graph.recompile()


class Careless(Pass):
    """Changes the function and calls neither ``check`` nor reports a hit."""

    name: ClassVar[str] = "careless"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        _replace_relu(program)
        return []


class Lossy(Careless):
    name: ClassVar[str] = "lossy"
    budget: ClassVar[float | None] = 10.0


class Promising(Quiet):
    name: ClassVar[str] = "promising"

    def ensures(self, program: Program) -> str | None:
        return "a relu is left" if count(program, "aten.relu") else None


def test_pass_that_forgets_to_check_is_checked() -> None:
    with pytest.raises(
        ParityError, match=r"pass careless: changed what the model computes: relative error .* in float32"
    ):
        Pipeline((Careless(),))(_program())


def test_lossy_pass_has_its_budget() -> None:
    _, report = Pipeline((Lossy(),))(_program())
    assert report.error_fp32 is not None
    assert 1e-3 < report.error_fp32 < 10


def test_broken_promise() -> None:
    with pytest.raises(PassError, match="pass 'promising': broke its promise: a relu is left"):
        Pipeline((Promising(),))(_program())


@rule(Call("aten.relu", self=Any("x")), source="test")
def there(x: Value) -> Value:
    """relu(x) = clamp_min(x, 0)."""
    return call("aten.clamp_min", x, 0)


@rule(Call("aten.clamp_min", self=Any("x"), min=0), source="test")
def and_back(x: Value) -> Value:
    """clamp_min(x, 0) = relu(x)."""
    return call("aten.relu", x)


class PingPong(RulePass):
    name: ClassVar[str] = "ping-pong"
    rules: ClassVar[tuple[Rule, ...]] = (there, and_back)


def test_rules_that_undo_each_other_end_with_an_error() -> None:
    with pytest.raises(PassError, match="pass 'ping-pong': does not end: its rules still hit after 100 rounds"):
        PingPong().run(_program(), lambda program, report: None)


def test_program_on_meta_is_rewritten_and_nothing_is_claimed() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)).eval()
        program = capture(model, (torch.randn(1, 3, 8, 8),))
    assert program.on_meta
    assert not _program().on_meta
    assert program.weight_bytes == 4 * ((27 + 1) * 4 + 4 * 4 + 2 * (4 * 4 + 4))
    rewritten, report = Pipeline.parse("fold-batch-norm")(program)
    assert count(rewritten, "aten.batch_norm") == 0
    assert report.passes[0].hits == 1
    assert (report.error_fp32, report.error_fp64) == (None, None)
    assert report.passes[0].rules[0].error_fp32 is None
