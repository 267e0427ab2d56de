"""``hycompile emit``: the program as MLIR text, for whoever continues from there."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hycompile.cli.output import JsonFlag, print_json, working
from hycompile.files import write_text


class Dialect(str, Enum):  # noqa: UP042 - typer shows the values of a str Enum
    """Dialects that torch-mlir lowers to."""

    TORCH = "torch"
    LINALG = "linalg"
    TOSA = "tosa"
    STABLEHLO = "stablehlo"


def emit(
    model: Annotated[str, typer.Argument(help="Registered model, .pt2 file or package.module:function.")],
    to: Annotated[Dialect, typer.Option(help="Dialect to write.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here, not to stdout.")
    ] = None,
    method: Annotated[str, typer.Option(help="Which method of the program.")] = "forward",
    pipeline: Annotated[str, typer.Option(help="Passes to run first.")] = "normalise,reparameterise",
    json: JsonFlag = False,
) -> None:
    """Write the model, after the passes, as MLIR."""
    from hycompile.compile import load_program
    from hycompile.emit import emit as emit_program
    from hycompile.pipeline import Pipeline

    with working() as say:
        say(f"capturing {model}")
        program = load_program(model)
        say(f"running {pipeline}")
        program, _ = Pipeline.parse(pipeline)(program)
        say(f"emitting {to.value}")
        text = emit_program(program, to.value, method)
    if output is not None:
        write_text(output, text)
    if json:
        document = {"model": program.name, "digest": program.digest, "dialect": to.value, "lines": text.count("\n")}
        print_json({**document, "file": None if output is None else str(output), "text": None if output else text})
    elif output is None:
        print(text)
    else:
        print(output)
