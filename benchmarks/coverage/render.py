"""README.md of this folder from its records, and nothing else: the same records give the same text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.coverage.records import BACKENDS, PRECISIONS, Cell, Precision, Record

HEAD = """# Coverage

Twenty hybrid networks on every backend: built, and computing what the model computes. Weights are random with sane
batch-norm statistics, except PP-OCRv6's, which are real. Each artifact runs on three draws of its input and is held
against the captured model, before any pass; the number is the largest relative error, `max|a - b| / max|b|`. Core ML
packages run in the reference interpreter. TensorRT-RTX engines are built ahead of time for compute capability 8.9.

- a number: proved, within 1e-4 in fp32 or 2e-2 in fp16
- built: there is an artifact; it cannot run on the machine that built it
- refused: the tool says it cannot take the model
- failed: the artifact computes something else, does not run, or the tool broke
- empty: not run yet

*stock* is the runtime's own exporter on the same model with no pass before it: `to_edge_transform_and_lower` with the
XNNPACK partitioner, `torch.onnx.export(dynamo=True)`, `coremltools.convert`, TVM's `from_exported_program` and default
compile, and TensorRT-RTX on that stock ONNX file. Numbers in brackets point to the reasons below the tables. *BN left*
counts batch norms in the exported program after the passes, which are those of device `host`.

To make it again, in the repository's root (hours; it continues where it was interrupted):

    .venv/bin/python -m benchmarks.coverage.run

Everything is in [results.json](results.json), with the seconds each build took; `--render` makes this page from it.
"""


class _Notes:
    """Reasons by number; equal reasons share one."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, reason: str | None) -> str:
        if not reason:
            return ""
        return f" [{self.numbers.setdefault(' '.join(reason.split()), len(self.numbers) + 1)}]"

    def lines(self) -> list[str]:
        return [f"{number}. {_plain(reason)}" for reason, number in self.numbers.items()]


def render(records: Sequence[Record]) -> str:
    """The page as Markdown."""
    notes, parts = _Notes(), [HEAD]
    for precision in PRECISIONS:
        chosen = [record for record in records if record.precision == precision]
        if chosen:
            parts += [f"## {precision}\n", _summary(chosen), "\n".join(_table(chosen, precision, notes)) + "\n"]
    if notes.numbers:
        parts += ["## Reasons\n", "\n".join(notes.lines()) + "\n"]
    tools = _tools(records)
    if tools:
        parts.append(f"Made with {tools}.\n")
    return "\n".join(parts)


def _table(records: Sequence[Record], precision: Precision, notes: _Notes) -> list[str]:
    cells = {record.cell: record for record in records}
    stock = any(record.stock_status is not None for record in records)
    columns = [name for backend in BACKENDS for name in (backend, *(["stock"] if stock else []))]
    lines = [f"| model | BN left | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for model in dict.fromkeys(record.model for record in records):
        row = [model, _batch_norms([record for record in records if record.model == model], notes)]
        for backend in BACKENDS:
            record = cells.get(Cell(model, backend, precision))
            row.append("" if record is None else _shown(record.status, record.rel_err, record.reason, notes))
            if stock:
                row.append(
                    ""
                    if record is None
                    else _shown(record.stock_status, record.stock_rel_err, record.stock_reason, notes)
                )
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _shown(status: str | None, error: float | None, reason: str | None, notes: _Notes) -> str:
    if status is None:
        return ""
    if status == "proved" and error is not None:
        return f"{error:.1e}"
    if status == "built":
        return "built"
    return f"**{status}**{notes.mark(reason)}"


def _batch_norms(records: Sequence[Record], notes: _Notes) -> str:
    """How many are left; every record of a model that got through the passes says the same."""
    known = [record for record in records if record.batch_norms_left is not None]
    return f"{known[0].batch_norms_left}{notes.mark(known[0].batch_norms_reason)}" if known else "unknown"


def _summary(records: Sequence[Record]) -> str:
    ours = Counter(record.status for record in records)
    stock = Counter(record.stock_status for record in records if record.stock_status is not None)
    text = f"{len(records)} cells: {_counted(ours)}."
    return f"{text} Stock: {_counted(stock)}.\n" if stock else f"{text}\n"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(
        f"{counts[status]} {status}" for status in ("proved", "built", "refused", "failed") if counts[status]
    )


def _plain(text: str) -> str:
    """Nothing in a tool's message may act as Markdown."""
    return "`" + text.replace("`", "'") + "`"


def _tools(records: Sequence[Record]) -> str:
    versions = {name: version for record in records for name, version in record.tools.items()}
    return ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
