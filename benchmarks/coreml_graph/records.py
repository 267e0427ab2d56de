"""What a package holds, counted, and the file all counts are kept in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hycompile.files import write_text

RESULTS = Path(__file__).parent / "results.json"

TRANSPOSES = frozenset({"transpose"})
RESHAPES = frozenset({"reshape", "reshape_like", "squeeze", "expand_dims", "flatten2d"})
COPIES = frozenset(
    {
        *("concat", "stack", "split", "slice_by_index", "slice_by_size", "tile", "reverse", "sliding_windows"),
        *("gather", "gather_nd", "gather_along_axis", "scatter", "scatter_nd", "fill", "fill_like"),
        *("cast", "identity", "shape", "space_to_depth", "depth_to_space", "pixel_shuffle", "pixel_unshuffle"),
        *("space_to_batch", "batch_to_space"),
    }
)
# A reshape of row-major data moves nothing, and the shape of a tensor is no tensor.
_STILL = RESHAPES | {"shape"}


class Counts(BaseModel):
    """One package: operators in all, those that only move data by kind, and the bytes these read and write."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operators: int
    transposes: int
    reshapes: int
    copies: int
    moved_bytes: int
    kinds: dict[str, int] = Field(default_factory=dict[str, int])

    @property
    def moves(self) -> int:
        """Operators that compute nothing: transposes, reshapes and copies."""
        return self.transposes + self.reshapes + self.copies


class Record(BaseModel):
    """One model: stock conversion and hycompile's package. A side is None if not run, and has a reason if it failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    stock: Counts | None = None
    stock_reason: str = ""
    ours: Counts | None = None
    ours_reason: str = ""
    ours_pipeline: str = ""
    tools: dict[str, str] = Field(default_factory=dict[str, str])


_RECORDS = TypeAdapter(list[Record])


def count(functions: Iterable[Any]) -> Counts:
    """Count MIL functions; constants are no operators."""
    kinds: Counter[str] = Counter()
    moved = 0
    for function in functions:
        for operation in function.operations:
            kind = str(operation.op_type)
            if kind == "const" or kind.startswith("constexpr"):
                continue
            kinds[kind] += 1
            if kind in TRANSPOSES | COPIES and kind not in _STILL:
                moved += 2 * sum(_size_bytes(output) for output in operation.outputs)
    return Counts(
        operators=sum(kinds.values()),
        transposes=sum(kinds[kind] for kind in TRANSPOSES),
        reshapes=sum(kinds[kind] for kind in RESHAPES),
        copies=sum(kinds[kind] for kind in COPIES),
        moved_bytes=moved,
        kinds=dict(kinds.most_common()),
    )


def _size_bytes(variable: Any) -> int:
    """Of a float32 package: four bytes an element, whatever an integer or boolean would take."""
    return 4 * math.prod(int(size) for size in variable.shape)


def load(path: Path) -> list[Record]:
    """The records of a results file; none if there is no file yet."""
    return _RECORDS.validate_json(path.read_bytes()) if path.is_file() else []


def save(path: Path, records: Sequence[Record]) -> None:
    """Write all records."""
    write_text(path, _RECORDS.dump_json(list(records), indent=2).decode() + "\n")
