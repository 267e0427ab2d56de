"""What one cell of the table holds, and the file all cells are kept in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from benchmarks import book

RESULTS = Path(__file__).parent / "results.json"
MODELS = (
    "language/sambay-tiny",
    "language/sambay-40m",
    "language/mamba-2-hybrid-tiny",
    "causal-lm/falcon-h1-tiny",
    "causal-lm/nemotron-h-tiny",
    "causal-lm/lfm2-tiny",
    "causal-lm/bamba-tiny",
    "causal-lm/granite-4-tiny",
    "causal-lm/jamba-tiny",
    "causal-lm/mamba2-tiny",
    "causal-lm/qwen3-next-tiny",
    "causal-lm/recurrent-gemma-tiny",
    "causal-lm/zamba2-tiny",
    "language/sambay-kjv",
    "language/samba2y-tiny",
    "language/gdny-tiny",
    "language/samba-tiny",
    "language/yoco-tiny",
    "language/transformer-tiny",
    "language/apriel-h1-tiny",
    "language/study-gla-3-1-tiny",
    "language/study-retnet-3-1-tiny",
    "language/study-hgrn2-3-1-tiny",
    "language/study-deltanet-3-1-tiny",
    "language/study-gated-deltanet-3-1-tiny",
)
TARGETS = ("executorch", "onnx", "coreml", "coreml_arguments", "tvm", "tensorrt_rtx", "linalg")
# Core ML's own state is float16, and only a package in float16 takes it; as arguments it has the package's precision.
PRECISION: dict[str, Literal["fp32", "fp16"]] = {**dict.fromkeys(TARGETS, "fp32"), "coreml": "fp16"}

Status = Literal["proved", "built", "emitted", "refused", "failed"]


class Cell(NamedTuple):
    """One square of the table."""

    model: str
    target: str


class Outcome(BaseModel):
    """What became of one attempt.

    ``proved``: the artifact ran here along the model's script and agrees with the model, final state included.
    ``built``: there is an artifact, which cannot run here. ``emitted``: MLIR text, which parses again. ``refused``: the
    tool cannot take the model. ``failed``: it computes something else, or broke. ``steps`` are the calls of the script.
    Bytes are those of the program after the passes, in float32, and those of the artifact's files, as its backend
    counts them; ``outside`` counts operators that no delegate takes. ``seconds`` is of lowering only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status
    rel_err: float | None = Field(default=None, ge=0)
    reason: str = ""
    steps: int | None = None
    seconds: float = 0.0
    program_weight_bytes: int | None = None
    program_state_bytes: int | None = None
    weight_bytes: int | None = None
    state_bytes: int | None = None
    outside: int | None = None
    tools: dict[str, str] = Field(default_factory=dict[str, str])


class Record(Outcome):
    """One entry of ``results.json``."""

    model: str
    target: str

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.target)


_RECORDS = TypeAdapter(list[Record])


def load(path: Path) -> list[Record]:
    """The records of a results file; none if there is no file yet."""
    return _RECORDS.validate_json(path.read_bytes()) if path.is_file() else []


class Book(book.Book[Cell, Record]):
    """The records by cell; every change is on disk before the call returns.

    Args:
        path: the results file; what it holds already is kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, load(path), key=lambda record: record.cell, place=_place, dump=_dump)

    def put(self, cell: Cell, outcome: Outcome) -> None:
        """Store what became of a cell."""
        self.change(cell, lambda _: Record(**cell._asdict(), **outcome.model_dump()))


def _dump(records: Sequence[Record]) -> str:
    return _RECORDS.dump_json(list(records), indent=2).decode() + "\n"


def _place(cell: Cell) -> tuple[int, str, int]:
    return MODELS.index(cell.model) if cell.model in MODELS else len(MODELS), cell.model, TARGETS.index(cell.target)
