"""``hycompile models``: what the registered families can build."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from hycompile.cli.output import JsonFlag, console, print_json
from hycompile.errors import CaptureError


def models(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, or a part of the name.")] = "*",
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the models that `build` takes by name."""
    from hycompile import registry

    wanted = pattern if any(letter in pattern for letter in "*?[") else f"*{pattern}*"
    found = [
        (name, model)
        for name in (registry.names("models") if family is None else [family])
        for model in registry.family(name).names()
        if fnmatchcase(model, wanted)
    ]
    if not found:
        raise CaptureError(f"pattern {pattern!r}", "matches no registered model", "`hycompile models` lists them all")
    if json:
        print_json([{"name": model, "family": name} for name, model in found])
        return
    from rich.table import Table

    table = Table("model", "family", box=None, pad_edge=False)
    for name, model in found:
        table.add_row(model, name)
    console().print(table)
