"""README.md of this folder from its records, and nothing else: the same records give the same text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.language.coverage.records import PRECISION, TARGETS, Cell, Record

HEAD = """# Language models on every target

`prefill` and `decode` of hybrid language models on every target, after the passes of device `host`. Weights are
random. An artifact runs along the model's script, a prompt and then 64 decodes of seeded tokens at the positions behind
it, over its own state, and is held against the captured model, before any pass: logits of every call and the final
state. A number is the largest relative error, `max|a - b| / max|b|`.

- a number: proved, within 1e-4 in fp32 or, for `coreml`, 2e-2 in fp16, which is what Core ML keeps state in;
  `coreml_arguments` is Core ML with state handed in and out instead (`coreml.state = "arguments"`); packages of both
  kinds run in the reference interpreter
- built: there is an artifact, for a GPU of compute capability 8.9; it cannot run on the machine that built it
- emitted: MLIR text of both methods, which parses again; nothing runs it here
- refused: the tool says it cannot take the model
- failed: it computes something else, or broke; where float16 is asked for, the reason says what PyTorch makes in it
- empty: not run yet

To make it again, in the repository's root (it continues where it was interrupted):

    .venv/bin/python -m benchmarks.language.coverage.run

Everything is in [results.json](results.json); `--render` makes this page from it.
"""
STATE = """## State

Bytes of state: in the program after the passes, by distinct storage, and in the files of each artifact. Caches and
recurrent states are there once, however many layers and methods use them, in `coreml` in half the bytes; a gated
memory, which lives for one token, is not among them. `executorch` counts places in the memory that its methods share,
`onnx`, `coreml_arguments` and `tensorrt_rtx` the state that is handed in and out, `coreml` the states that a package
declares, `tvm` the tensors it starts with.
"""
WEIGHTS = """## Weights

Bytes of weights, in the same way. `executorch` counts constants and what the delegate was given; `onnx` has a file for
each method, with weights of its own; a `tensorrt_rtx` engine does not say. *Outside* counts operators of both methods
that XNNPACK does not take.
"""


def render(records: Sequence[Record]) -> str:
    """The page as Markdown."""
    cells = {record.cell: record for record in records}
    models = list(dict.fromkeys(record.model for record in records))
    reasons: dict[str, int] = {}
    parts = [HEAD, "\n".join(_statuses(models, cells, reasons)) + "\n"]
    parts += [STATE, "\n".join(_sizes(models, cells, "state_bytes", TARGETS[:-1])) + "\n"]
    parts += [WEIGHTS, "\n".join(_sizes(models, cells, "weight_bytes", TARGETS[:5], outside=True)) + "\n"]
    if reasons:
        parts += ["## Reasons\n", "\n".join(f"{number}. {_plain(text)}" for text, number in reasons.items()) + "\n"]
    tools = {name: version for record in records for name, version in record.tools.items()}
    if tools:
        parts.append(f"Made with {', '.join(f'{name} {tools[name]}' for name in sorted(tools))}.\n")
    return "\n".join(parts)


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| model | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]


def _statuses(models: Sequence[str], cells: dict[Cell, Record], reasons: dict[str, int]) -> list[str]:
    lines = _head([f"{target} {PRECISION[target]}" for target in TARGETS])
    for model in models:
        row = [_status(cells.get(Cell(model, target)), reasons) for target in TARGETS]
        lines.append(f"| {model} | {' | '.join(row)} |")
    return lines


def _status(record: Record | None, reasons: dict[str, int]) -> str:
    if record is None:
        return ""
    if record.status == "proved":
        return f"{record.rel_err:.1e}"
    if record.status in ("built", "emitted"):
        return record.status
    return f"**{record.status}** [{reasons.setdefault(' '.join(record.reason.split()), len(reasons) + 1)}]"


def _sizes(
    models: Sequence[str], cells: dict[Cell, Record], field: str, targets: Sequence[str], outside: bool = False
) -> list[str]:
    lines = _head(["program", *targets, *(["outside"] if outside else [])])
    for model in models:
        own = [getattr(record, f"program_{field}") for record in cells.values() if record.model == model]
        row = [_number(next((size for size in own if size is not None), None))]
        row += [_number(getattr(cells.get(Cell(model, target)), field, None)) for target in targets]
        if outside:
            row.append(_number(getattr(cells.get(Cell(model, "executorch")), "outside", None)))
        lines.append(f"| {model} | {' | '.join(row)} |")
    return lines


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _plain(text: str) -> str:
    """Nothing in a tool's message may act as Markdown."""
    return "`" + text.replace("`", "'") + "`"
