"""A real text recogniser on every runtime of this machine: each artifact reads the same rendered line.

The PP-OCRv6 small recogniser (convolution and attention, real weights, fetched once) is compiled for this machine,
proved against the uncompiled model and measured beside it. Then each artifact that can run here reads a line of text:

    python examples/read_line.py "any short line of Latin text"
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import hycompile as hy
from hycompile.device import load_target, open_session
from hycompile.errors import HycompileError, Unsupported
from hycompile.measure.sampling import Plan
from hycompile.models import ppocr
from hycompile.models.ocr_text import decode, read_dictionary, render
from hycompile.report import page
from hycompile.report.rows import runtime_rows
from hycompile.reports import BuildReport

_PLAN = Plan(runs=30, max_seconds=2.0, max_warm_up_seconds=1.0)


def main(text: str = ppocr.SAMPLE_TEXT, folder: str = "hycompile-out/read_line") -> BuildReport:
    """Build for every runtime of the host, read ``text`` with each, print the table and write the report."""
    image = render(text)
    progress = Console(stderr=True)
    with progress.status("starting") as status:
        request = hy.Request(source="PP-OCRv6", device="host", plan=_PLAN)
        report = hy.build(request, progress=lambda step: status.update(step))
        status.update("reading")
        print_table(report, image)
    report_file = Path(folder) / "report.html"
    report_file.parent.mkdir(parents=True, exist_ok=True)
    report_file.write_text(page.render(report, load_target("host"), shlex.join(["python", *sys.argv])))
    print(f"report: {report_file}")
    return report


def print_table(report: BuildReport, image: Tensor) -> None:
    """A row for the uncompiled model and one for each runtime: what it reads, error, size, latency ratio."""
    characters = read_dictionary(ppocr.files() / ppocr.DICTIONARY)
    table = Table("runtime", "reads", "rel. error", "size", "latency / eager", box=None, pad_edge=False)
    model = ppocr.family.build("ppocrv6_rec_small").module
    with torch.no_grad():
        table.add_row("eager PyTorch", decode(model(image), characters), "", "", "1.00")
    rows = runtime_rows(report)
    for result, row in zip(report.runtimes, rows, strict=True):
        reads = _read(result.folder, image, lambda logits: decode(logits, characters))
        table.add_row(row.runtime, reads or row.status, row.error, row.size, row.ratio)
    Console().print(table, markup=False)
    for row in rows:
        if row.reason:
            print(f"{row.runtime}: {row.reason}")


def _read(folder: str | None, image: Tensor, decoded: Callable[[Tensor], str]) -> str:
    """What the artifact reads; empty where there is none, or none that runs here."""
    if folder is None:
        return ""
    try:
        (logits,) = open_session(hy.Artifact.load(Path(folder))).run((image,))
    except Unsupported:
        return ""
    return decoded(logits)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except HycompileError as error:
        sys.exit(f"error: {error}")
