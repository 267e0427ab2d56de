"""The accuracy benchmark: cells, what is measured again, examining a network, and how its processes share the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.accuracy import run as command
from benchmarks.accuracy.exam import Exam, Subject
from benchmarks.accuracy.methods import EVERY, METHODS, PARTS, SETTINGS, named, pipeline
from benchmarks.accuracy.records import RUNS, SIMULATION, Asked, Book, Cell, Outcome, combine, decode, encode, load
from benchmarks.accuracy.shares import Progress, shares
from benchmarks.accuracy.worker import examine, simulation
from hycompile.capture import capture
from hycompile.errors import PassError
from hycompile.pipeline import Pipeline

ASKED = Asked(pipeline="quantise", calibration=8, images=0)
LABELS = [0, 1, 2, 3, 3]


def cell(model: str = "one", seed: int = 0, method: str = "mse") -> Cell:
    return Cell("bed", model, seed, method, 6, 8)


def exam(inputs: Tensor) -> Exam:
    return Exam(
        testbed="toy",
        count=len(inputs),
        inputs=lambda start, stop: inputs[start:stop],
        read=lambda outputs: outputs.argmax(-1).tolist(),
        mark=lambda answers: {"top1": 20.0 * sum(a == b for a, b in zip(answers, LABELS, strict=True))},
    )


def test_cells_travel() -> None:
    assert decode(encode(cell())) == cell()


def test_the_last_batch_is_filled_up_and_cut_again() -> None:
    given, shapes = exam(torch.eye(5, 4).roll(1, 0)), list[tuple[int, ...]]()

    def answer(batch: Tensor) -> Tensor:
        shapes.append(tuple(batch.shape))
        return batch

    assert given.answers(answer, 2) == [0, 0, 1, 2, 3]
    assert shapes == [(2, 4)] * 3


def test_scores_are_beside_float_and_agreement_is_with_the_reference() -> None:
    known, found, held = [0, 1, 2, 3, 3], [0, 1, 2, 2, 2], [0, 1, 2, 2, 3]
    scores = exam(torch.zeros(5, 4)).scores(found, known, held)
    assert [(score.metric, score.reference, score.value) for score in scores] == [
        ("top1", 100.0, 60.0),
        ("agreement", 100.0, 80.0),
    ]


def test_every_method_can_be_read_for_every_pair_of_bits() -> None:
    for text in EVERY.values():
        for weight_bits, activation_bits in SETTINGS.values():
            parsed = str(Pipeline.parse(pipeline(text, weight_bits, activation_bits)))
            assert "$" not in parsed
    assert "bits=4" in pipeline(METHODS["mse"], 4, 8)


def test_methods_need_names() -> None:
    assert named(["trial=quantise{bits=$w}"])["trial"] == "quantise{bits=$w}"
    with pytest.raises(PassError, match="has no name"):
        named(["quantise{bits=4}"])


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    inputs = torch.randn(5, 4)
    return Subject(capture(network, (inputs[:2],)), 2, (torch.randn(2, 4), torch.randn(2, 4)), (exam(inputs),))


def test_a_network_is_quantised_and_examined(subject: Subject) -> None:
    known = [subject.exams[0].answers(simulation(subject.program), 2)]
    fine = examine(Cell("bed", "one", 0, "mse", 8, 8), pipeline(METHODS["mse"], 8, 8), subject, known)
    coarse = examine(Cell("bed", "one", 0, "mse", 2, 2), pipeline(METHODS["mse"], 2, 2), subject, known)
    assert fine.sqnr is not None
    assert coarse.sqnr is not None
    assert fine.sqnr > coarse.sqnr + 15
    assert [score.metric for score in fine.scores] == ["top1", "agreement"]
    assert (fine.scores[0].reference, fine.scores[0].samples) == (exam(torch.zeros(5, 4)).mark(known[0])["top1"], 5)
    assert fine.scores[1].value == 100.0


def test_an_artifact_is_held_to_the_simulation(subject: Subject) -> None:
    known: Any = [["nothing"] * 5]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.accuracy.worker.open_artifact", lambda program, runner: simulation(program))
        patch.setattr(Exam, "scores", lambda self, given, before, held: [] if given == held != before else None)
        found = examine(Cell("bed", "one", 0, "mse", 8, 8, "onnx"), pipeline(METHODS["mse"], 8, 8), subject, known)
    assert found.scores == ()


def test_cells_of_a_network_share_a_process_unless_they_are_too_many() -> None:
    cells = [cell(model, seed, method) for model in "ab" for seed in (0, 1) for method in ("minmax", "mse", "slow")]
    few = shares(cells, 2, {"bed": 1.0})
    assert [len(share) for share in few] == [3] * 4
    many = shares(cells, 8, {"bed": 2.0})
    assert [len(share) for share in many] == [2] * 4 + [1] * 4
    assert [len(share) for share in shares(cells, 100, {"bed": 1.0})] == [1] * 12
    long = [one._replace(bed="long") for one in cells[:3]]
    mixed = shares([*cells, *long], 4, {"bed": 1.0, "long": 8.0})
    assert [(share[0].bed, len(share)) for share in mixed] == [("long", 1)] * 3 + [("bed", 3)] * 4
    for found in (few, many, mixed):
        assert all(len({one.network for one in share}) == 1 for share in found)
    assert sorted(one for share in many for one in share) == sorted(cells)
    assert shares([], 3, {}) == []


def test_progress_says_what_is_left() -> None:
    cells = [cell(seed=seed, method=method) for seed in range(2) for method in ("fast", "slow")]
    progress, failed = Progress(cells, 2), Outcome(status="failed", reason="too bad")
    assert progress.tell(cells[0], failed, 60.0).startswith(
        "[1/4, 0 h 02 min left] bed one seed 0 fast W6A8 simulation"
    )
    # One of each kind is left, in two processes.
    progress.tell(cells[1], failed, 600.0)
    assert progress.tell(cells[2], failed, 60.0).startswith("[3/4, 0 h 10 min left]")
    assert progress.tell(cells[3], failed, 600.0).endswith("too bad in 600 s")


def test_what_was_asked_for_otherwise_is_measured_again(tmp_path: Path) -> None:
    book = Book(tmp_path / RUNS)
    book.change(cell(), lambda known: combine(cell(), ASKED, Outcome(status="failed"), command.sources()))
    book.change(cell("two"), lambda known: combine(cell("two"), ASKED, Outcome(status="measured"), "older"))
    kept = {record.cell: record for record in load(tmp_path / RUNS)}
    assert (kept[cell()].asked, kept[cell("two")].code) == (ASKED, "older")

    def wanted(one: Cell, asked: Asked = ASKED, *options: str) -> bool:
        return command.wanted(Book(tmp_path / RUNS), one, asked, command.parser().parse_args(options))

    assert wanted(cell("three"))
    assert not wanted(cell())
    assert wanted(cell(), ASKED.model_copy(update={"pipeline": "quantise{bits=4}"}))
    assert wanted(cell(), ASKED, "--fresh")
    assert wanted(cell(), ASKED, "--redo", "failed")
    assert not wanted(cell(), ASKED, "--redo", "stale")
    assert wanted(cell("two"), ASKED, "--redo", "stale")


def test_an_unknown_method_is_refused_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--methods", "miracle", "--results", str(tmp_path)]) == PassError.exit_code
    assert "method 'miracle': is not known" in capsys.readouterr().err
    assert command.main(["--method-text", "bad=miracle{a=1}", "--results", str(tmp_path)]) == PassError.exit_code
    assert not any(tmp_path.iterdir())


def test_cells_are_of_the_chosen_networks(tmp_path: Path) -> None:
    chosen = ["--only", "fashion-mnist", "--models", "repvit", "--seeds", "1", "--methods", "mse", "--settings", "W6A6"]
    found = command.cells(command.parser().parse_args(chosen))
    assert found == [Cell("fashion-mnist", "repvit", 1, "mse", 6, 6, SIMULATION)]
    every = command.cells(command.parser().parse_args(["--only", "ocr", "--method-text", "trial=quantise"]))
    assert list(dict.fromkeys(cell.method for cell in every)) == [*METHODS, "trial"]
    assert not {cell.method for cell in every} & set(PARTS)
