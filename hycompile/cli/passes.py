"""``hycompile passes``: the catalogue, made from the passes' and rules' own docstrings."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hycompile.cli.output import JsonFlag, console, print_json

if TYPE_CHECKING:
    from hycompile.pipeline import Pass
    from hycompile.rewrite import Rule


def passes(
    name: Annotated[str | None, typer.Argument(help="Show one pass in full.")] = None, json: JsonFlag = False
) -> None:
    """List the passes, or show one in full.

    In full: its rules with identities and sources, its options, and what it needs before it.
    """
    from hycompile import registry

    names = registry.names("passes") if name is None else [name]
    entries = [_entry(registry.pass_class(item)) for item in names]
    if json:
        print_json(entries if name is None else entries[0])
    elif name is None:
        _print_table(entries)
    else:
        console().print(_full(entries[0]), markup=False)


def _entry(kind: type[Pass]) -> dict[str, Any]:
    rules = cast("tuple[Rule, ...]", getattr(kind, "rules", ()))
    return {
        "name": kind.name,
        "doc": inspect.getdoc(kind) or "",
        "options": {option.name: option.default for option in dataclasses.fields(kind)},
        "requires": list(kind.requires),
        "budget": kind.budget_text(),
        "rules": [
            {"name": rule.name, "identity": rule.identity, "doc": rule.doc, "source": rule.source} for rule in rules
        ],
    }


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("pass", "what it does", "rules", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(entry["name"], entry["doc"].partition("\n")[0], str(len(entry["rules"]) or ""))
    console().print(table)


def _full(entry: dict[str, Any]) -> str:
    lines = [entry["name"], "", entry["doc"], ""]
    options = ", ".join(f"{option}={default}" for option, default in entry["options"].items())
    lines.append(f"options   {options or 'none'}")
    lines.append(f"requires  {', '.join(entry['requires']) or 'nothing'}")
    lines.append(f"error     {entry['budget'] or 'exact, up to rounding'}")
    for rule in entry["rules"]:
        lines += ["", f"rule {rule['name']}", *(f"  {line}".rstrip() for line in rule["doc"].splitlines())]
        lines.append(f"  Source: {rule['source']}")
    return "\n".join(lines)
