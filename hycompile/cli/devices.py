"""``hycompile devices`` and ``hycompile devices show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hycompile.cli.output import JsonFlag, console, print_json

if TYPE_CHECKING:
    from hycompile.target import Target

app = typer.Typer(help="List devices, or show one.", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def devices(context: typer.Context, json: JsonFlag = False) -> None:
    """List the devices that artifacts can be built for."""
    from hycompile.device import known, load_target

    if context.invoked_subcommand is not None:
        return
    targets = [load_target(str(path)) for path in known().values()]
    if json:
        print_json([target.model_dump(mode="json") for target in targets])
        return
    from rich.table import Table

    table = Table("device", "description", "runtimes", "precision", box=None, pad_edge=False)
    for target in targets:
        table.add_row(target.name, target.description, " ".join(target.runtimes), target.precision)
    console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A device's name, or a path to a device file.")], json: JsonFlag = False
) -> None:
    """Show one device: runtimes, options, quirks and where each fact comes from."""
    from hycompile.device import load_target

    target = load_target(name)
    if json:
        print_json(target.model_dump(mode="json"))
        return
    console().print("\n".join(_lines(target)), markup=False)


def _lines(target: Target) -> list[str]:
    from pydantic import BaseModel

    lines = [f"{target.name}: {target.description}", ""]
    for key in ("runtimes", "precision", "pipeline", "triple"):
        value = getattr(target, key)
        lines.append(f"{key:12} {value if isinstance(value, str) else ', '.join(value)}")
    lines.append(f"{'os':12} {target.os.name} {target.os.floor} or newer")
    for key in type(target).model_fields:
        options = getattr(target, key)
        if key in target.runtimes and isinstance(options, BaseModel):
            values = ", ".join(f"{name}={value}" for name, value in options.model_dump(mode="json").items())
            lines.append(f"{key:12} {values}")
    lines += ["", "quirks"] + [f"  - {quirk}" for quirk in target.quirks] if target.quirks else []
    lines += ["", "sources"] + [f"  - {source.fact}\n    {source.reference}" for source in target.sources]
    return lines
