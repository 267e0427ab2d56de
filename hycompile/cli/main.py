"""Entry point of ``hycompile``: the commands, and what becomes of an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hycompile.cli import build, devices, doctor, emit, explain, generate, measure, models, passes, tune
from hycompile.cli.failure import EXIT_CODES, INTERRUPTED, report_failure

app = typer.Typer(
    name="hycompile",
    help="Take a hybrid network from PyTorch to ExecuTorch, ONNX, TensorRT, Core ML and TVM, proved and measured.",
    epilog=EXIT_CODES,
    add_completion=False,
    # Rich help costs a tenth of a second before anything is shown.
    rich_markup_mode=None,
)
app.command("build")(build.build)
app.command("generate")(generate.generate)
app.command("measure")(measure.measure)
app.command("tune")(tune.tune)
app.command("explain")(explain.explain)
app.command("emit")(emit.emit)
app.command("models")(models.models)
app.command("passes")(passes.passes)
app.add_typer(devices.app, name="devices")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hycompile {version('hycompile')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take a hybrid network from PyTorch to ExecuTorch, ONNX, TensorRT, Core ML and TVM, proved and measured."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises for what a user can meet."""
    as_json = "--json" in arguments
    try:
        code = app(list(arguments) or ["--help"], prog_name="hycompile", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer's answer to Ctrl-C inside a command
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough; Python must not complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where nothing may pass as a traceback
        return report_failure(error, as_json)


def main() -> None:
    """Console script."""
    sys.exit(run(sys.argv[1:]))
