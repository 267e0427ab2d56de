"""``hycompile build``: one model in, an artifact per runtime out, proved and measured, with a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hycompile.cli.failure import report_failure
from hycompile.cli.output import JsonFlag, Progress, console, print_json, working
from hycompile.errors import HycompileError, ParityError, Unsupported
from hycompile.files import copy_folder, write_text

if TYPE_CHECKING:
    from hycompile.reports import BuildReport
    from hycompile.tuning.recipe import Recipe

_OUTPUT = Path("hycompile-out")
_STYLES = {"proved": "green", "built": "blue", "refused": "yellow", "failed": "red"}


def build(
    model: Annotated[str, typer.Argument(help="Registered model, .pt2 file or package.module:function.")],
    device: Annotated[str, typer.Option(help="Device name, or a path to a device file.")],
    runtime: Annotated[list[str] | None, typer.Option(help="Only this runtime; repeatable.")] = None,
    pipeline: Annotated[str | None, typer.Option(metavar="TEXT", help="Passes, instead of the device's own.")] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="Instead of the device's own.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Samples for int8: a .npz, .npy or .safetensors file each.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Not quantised; `auto`: the fewest that meet the budget.")
    ] = None,
    evaluate: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="Scores the model: package.module:function.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(metavar="POINTS", help="Fail if a score is lower than the float model's by more.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `hycompile tune` chose: runtime, passes, precision.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: hycompile-out/MODEL-DEVICE.")] = None,
    measure: Annotated[bool, typer.Option(help="Measure what can run here.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="Intra-operator threads while measuring.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Artifact cache, instead of the user's own.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Build, prove and measure a model for a device.

    Capture, passes, code generation, numerical proof, measurement, and a report as one HTML page.
    """
    from hycompile.cache import Cache
    from hycompile.compile import build as run
    from hycompile.measure.sampling import Plan
    from hycompile.report.page import render
    from hycompile.request import Request

    chosen = _recipe(recipe, runtime, pipeline, precision)
    plan = Plan(threads=threads) if measure else None
    request = Request(
        *(model, device, runtime, pipeline, precision, plan),
        recipe=chosen,
        calibration=calibration,
        evaluate=evaluate,
        max_drop=max_drop,
        keep=keep or (),
    )
    target = request.target()
    with working() as say:
        report = run(request, cache=Cache(cache), progress=say)
        folder = out or _OUTPUT / f"{_file_name(report.program)}-{target.name}"
        _place(report, folder, say)
        page = folder / "report.html"
        _write_plan(report, folder)
        write_text(page, render(report, target, shlex.join(["hycompile", *sys.argv[1:]])))
    if json:
        print_json(_document(report, page))
    else:
        _print(report, page)
    failure = _failure(report, runtime or [])
    if failure is not None:
        # The document on stdout tells it already; a second one would be one too many.
        raise typer.Exit(report_failure(failure, as_json=False))


def _recipe(path: Path | None, *instead: object) -> Recipe | None:
    if path is None:
        return None
    if any(instead):
        raise typer.BadParameter("it says runtime, passes and precision itself", param_hint="--recipe")
    from hycompile.tuning.recipe import load_recipe

    return load_recipe(path)


def _file_name(program: str) -> str:
    """A program's name as one folder name, whatever it holds."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in program).strip(".") or "model"


def _place(report: BuildReport, folder: Path, say: Progress) -> None:
    """Copy each artifact out of the cache, so that what the user holds stays when the cache is emptied."""
    for result in report.runtimes:
        if result.folder is not None:
            say(f"{result.runtime}: writing {folder / result.runtime}")
            copy_folder(Path(result.folder), folder / result.runtime)
            result.folder = str((folder / result.runtime).absolute())


def _write_plan(report: BuildReport, folder: Path) -> None:
    """The plan has a number for every channel: it is a file of its own, and the report says where."""
    if report.quantisation is not None:
        path = folder / "quantisation.json"
        write_text(path, str(report.quantisation.plan))
        report.quantisation.plan = str(path.absolute())


def _document(report: BuildReport, page: Path) -> dict[str, Any]:
    from dataclasses import asdict

    document = asdict(report)
    for result in document["runtimes"]:
        result["artifact"] = result.pop("folder")
        result["profile"] = [dict(zip(("operator", "calls", "ms"), time, strict=True)) for time in result["profile"]]
    return {**document, "report": str(page.absolute())}


def _print(report: BuildReport, page: Path) -> None:
    from rich.table import Table

    from hycompile.report.page import verdict
    from hycompile.report.quantisation import evaluation_lines, quantisation_lines
    from hycompile.report.rows import pass_rows, runtime_rows

    out = console()
    passes = Table.grid(padding=(0, 2))
    for step in pass_rows(report):
        passes.add_row(step.text, f"{step.hits} hits", f"{step.refused} refused", "", f"{step.seconds} s")
        for rule in step.rules:
            error = f"err {rule.error_fp32}" if rule.error_fp32 else ""
            passes.add_row(
                f"  {rule.name}", f"{rule.hits} hits", f"{len(rule.refusals)} refused", error, f"{rule.seconds} s"
            )
            if rule.facts:
                passes.add_row(f"    {rule.facts}")
    out.print(passes)
    columns = ("runtime", "status", "rel. error", "size", "median", "x eager", "delegated", "built in")
    table = Table(*columns, box=None, pad_edge=False)
    for row in runtime_rows(report):
        status = f"[{_STYLES[row.status]}]{row.status}[/]"
        seconds = "cached" if row.cached else row.seconds
        table.add_row(row.runtime, status, row.error, row.size, row.latency, row.ratio, row.delegated, seconds)
    out.print(table)
    for line in (*quantisation_lines(report), *evaluation_lines(report)):
        out.print(line, markup=False)
    if report.cached:
        out.print("an identical build was found in the cache; the latencies are the ones measured then")
    for row in runtime_rows(report):
        if row.reason:
            out.print(f"{row.runtime}: {row.reason}", markup=False)
    out.print(f"{verdict(report).text}; report: {page}", markup=False)


def _failure(report: BuildReport, demanded: list[str]) -> HycompileError | None:
    """What makes the build a failure: a runtime that failed, one asked for by name that refused, or nothing built."""
    for result in report.runtimes:
        if result.status == "failed":
            return ParityError(f"runtime {result.runtime!r}", result.reason, "see the report")
    refused = [result for result in report.runtimes if result.status == "refused"]
    if len(refused) < len(report.runtimes):
        refused = [result for result in refused if result.runtime in demanded]
    for result in refused:
        return Unsupported(f"runtime {result.runtime!r}", result.reason, "see the report")
    return None
