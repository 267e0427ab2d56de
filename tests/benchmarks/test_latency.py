"""The latency benchmark's workers: what is built, what is timed, what a crash costs, and where a run goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.latency import build_worker, time_worker
from benchmarks.latency.build_worker import prepare
from benchmarks.latency.contender import Built, Options
from benchmarks.latency.contenders import BY_NAME
from benchmarks.latency.records import (
    CONTENDERS,
    REFERENCE,
    Book,
    Cell,
    Prepared,
    Timed,
    load,
)
from benchmarks.latency.rounds import Plan, paired_ratio
from benchmarks.latency.run import main, measure_model, plan_sitting
from benchmarks.latency.settings import Settings
from benchmarks.latency.subject import Run, Subject
from benchmarks.messages import Begun
from hycompile.device import load_target
from hycompile.measure.conditions import read_conditions
from hycompile.measure.statistics import median

CONDITIONS = read_conditions(1, 0.0, {"torch": "2.13.0"})


def test_every_contender_of_the_list_exists() -> None:
    assert tuple(BY_NAME) == CONTENDERS


class Toy:
    """A contender that gets a share of the values wrong, or breaks where it is told to."""

    def __init__(self, error: float = 0.0, absent: str | None = None, breaks: str = "") -> None:
        self.error, self.absent, self.breaks, self.opened = error, absent, breaks, 0

    def missing(self, options: Options) -> str | None:
        return self.absent

    def build(self, subject: Subject, folder: Path, options: Options) -> Built:
        if self.breaks == "build":
            raise NotImplementedError("no translation\nof aten.x")
        return Built(2.0, 3.0)

    def open(self, subject: Subject, folder: Path, threads: int) -> Run:
        if self.breaks == "open":
            raise OSError("truncated")
        self.opened += 1
        return lambda inputs: [value * (1 + self.error) for value in subject.eager(inputs)]


TOY = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    toy = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.Linear(4 * 36, 5))
    nn.init.uniform_(toy[1].running_var, 0.5, 1.5)
    return toy.eval(), (torch.randn(1, 3, 8, 8),)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "latency_toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "latency_toy:make"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    options = Options("normalise,reparameterise", tmp_path / "no" / "bin" / "python", 1)
    return Settings(folder=tmp_path / "artifacts", options=options, plan=Plan(rounds=6), load_before=0.0)


def test_contenders_that_fail_are_not_timed(toy: str, settings: Settings, tmp_path: Path) -> None:
    def outcome(contender: Toy) -> Prepared:
        return prepare(contender, lambda: Subject(toy), tmp_path, settings)

    right = outcome(Toy())
    assert (right.status, right.rel_err, right.build_seconds, right.build_cpu_seconds) == ("ready", 0.0, 2.0, 3.0)
    wrong = outcome(Toy(error=1e-3))
    assert (wrong.status, wrong.reason) == ("failed", "relative error 1.00e-03, allowed 1e-04")
    assert wrong.rel_err == pytest.approx(1e-3, rel=1e-3)
    nan = outcome(Toy(error=float("nan")))
    assert (nan.status, nan.rel_err) == ("failed", None)
    broken = outcome(Toy(breaks="open"))
    assert (broken.status, broken.reason) == ("failed", "does not run: OSError: truncated")
    refused = outcome(Toy(breaks="build"))
    assert (refused.status, refused.reason) == ("refused", "NotImplementedError: no translation")
    absent = Toy(absent="x not installed: pip install x")
    assert outcome(absent) == Prepared(status="missing", reason="x not installed: pip install x")
    assert absent.opened == 0


def test_answers_computed_while_building_are_seen(toy: str, settings: Settings, tmp_path: Path) -> None:
    class Remembers(Toy):
        def open(self, subject: Subject, folder: Path, threads: int) -> Run:
            answer = subject.eager(subject.inputs)
            return lambda inputs: answer

    assert prepare(Remembers(), lambda: Subject(toy), tmp_path, settings).status == "failed"


def test_sitting_leaves_out_what_failed(
    toy: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = {REFERENCE: Toy(), "eager": Toy(), "openvino": Toy(error=1.0), "litert": Toy(breaks="open")}
    for name, contender in chosen.items():
        monkeypatch.setitem(BY_NAME, name, contender)
    plan = Plan(rounds=6, batch_ms=0.1, max_warm_up_s=0.1, settle_s=0.01)
    settings = settings.model_copy(update={"plan": plan})
    pipe = (tmp_path / "said").open("w+")
    with pipe:
        time_worker.work([Cell(toy, name, 1) for name in chosen], settings, pipe)
        pipe.seek(0)
        said = [time_worker.job(settings).read(line) for line in pipe]
    outcomes: dict[str, Timed] = {}
    current = ""
    for message in said:
        if isinstance(message, Begun):
            current = message.attempt.contender
        else:
            assert current not in outcomes
            outcomes[current] = message.outcome
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "openvino": "failed",
        "litert": "failed",
        REFERENCE: "timed",
        "eager": "timed",
    }
    assert outcomes["openvino"].wall_ms == ()
    assert outcomes[REFERENCE].wall_ratio == 1.0
    eager = outcomes["eager"]
    assert (len(eager.wall_ms), eager.rel_err, eager.base_wall_ms) == (6, 0.0, outcomes[REFERENCE].wall_ms)
    assert eager.gflops is not None
    # conv 2*3*9*4*36, linear 2*144*5
    assert eager.gflops == pytest.approx((2 * 3 * 9 * 4 * 36 + 2 * 144 * 5) / median(eager.wall_ms) / 1e6)


def ready(contender: str) -> dict[str, Prepared]:
    return {contender: Prepared(status="ready"), REFERENCE: Prepared(status="ready")}


def test_reference_sits_in_every_sitting_once() -> None:
    eager, reference = Cell("m", "eager", 2), Cell("m", REFERENCE, 2)
    assert plan_sitting([eager], ready("eager")) == [reference, eager]
    assert plan_sitting([eager, reference], ready("eager")) == [reference, eager]
    failed = Prepared(status="failed", reason="x")
    assert plan_sitting([eager], {"eager": failed, REFERENCE: Prepared(status="ready")}) == []
    assert plan_sitting([eager], {"eager": Prepared(status="ready"), REFERENCE: failed}) == [eager]


BUILDING = """
import json, os, sys
pipe = os.fdopen(int(sys.argv[1]), "w")
print(json.dumps({"begun": sys.argv[2]}), file=pipe)
print(json.dumps({"done": {"status": "ready"}}), file=pipe)
"""
CRASHING = """
import json, os, signal, sys
pipe = os.fdopen(int(sys.argv[1]), "w")
cells = sys.argv[2:]
say = lambda kind, what: print(json.dumps({kind: what}), file=pipe, flush=True)
for cell in cells:
    say("begun", cell)
for cell in cells:
    say("begun", cell)
    if json.loads(cell)[1] == "litert":
        os.kill(os.getpid(), signal.SIGSEGV)
for cell in cells:
    say("begun", cell)
    say("done", {"status": "timed", "wall_ratio": float(len(cells)), "cpu_ratio": 1.0})
"""


def test_crash_in_a_round_costs_one_contender(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[str] = []

    def replace(module: object, script: str) -> None:
        real = getattr(module, "job")  # noqa: B009

        def job(settings: Settings) -> object:
            made = real(settings)

            class Fake(type(made)):  # pyright: ignore[reportUntypedBaseClass]
                def command(self, attempts: Sequence[Cell], descriptor: int) -> list[str]:
                    commands.append(script)
                    return [sys.executable, "-c", script, str(descriptor), *map(json.dumps, attempts)]

            return Fake(*vars(made).values())

        monkeypatch.setattr(module, "job", job)

    replace(build_worker, BUILDING)
    replace(time_worker, CRASHING)
    book = Book(tmp_path / "results.json")
    cells = [Cell("levit_128", name, 1) for name in (REFERENCE, "litert", "eager")]
    measure_model(book, cells, settings, 30.0)
    found = {one.contender: one for one in load(book.path)}
    assert found["litert"].status == "failed"
    assert found["litert"].reason == "the process was ended by SIGSEGV"
    assert (found[REFERENCE].wall_ratio, found["eager"].wall_ratio) == (2.0, 2.0)
    assert commands == [BUILDING] * 3 + [CRASHING] * 2


def test_one_model_from_end_to_end(toy: str, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    chosen = ["--models", toy, "--threads", "1", "--rounds", "6", "--results", str(results)]
    chosen += ["--litert-python", str(tmp_path / "none" / "bin" / "python")]
    main([*chosen, "--contenders", REFERENCE, "hycompile-onnx"])
    ours, reference = load(results)
    assert (ours.contender, ours.status, reference.status) == ("hycompile-onnx", "timed", "timed"), ours
    assert ours.rel_err is not None
    assert ours.rel_err < 1e-5
    assert ours.wall_ratio == pytest.approx(paired_ratio(ours.wall_ms, reference.wall_ms).value)
    assert ours.passes_seconds is not None
    assert ours.build_seconds is not None
    assert 0 < ours.passes_seconds < ours.build_seconds
    assert ours.pipeline == load_target("host").pipeline
    before = results.stat().st_mtime_ns
    main([*chosen, "--contenders", REFERENCE, "hycompile-onnx"])
    assert results.stat().st_mtime_ns == before
    main([*chosen, "--contenders", "litert"])
    litert = next(one for one in load(results) if one.contender == "litert")
    assert litert.status == "missing"
    assert "not installed" in litert.reason or "no environment" in litert.reason
