"""Writes ``passes.md``, the catalogue of passes and rules, from what ``hycompile passes --json`` says.

In the repository's root: ``make docs``, or ``python docs/generate.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "passes.md"
HEAD = """# The passes

This page is generated from the docstrings of passes and rules (`make docs`); `hycompile passes NAME` prints the same.
[rules.md](rules.md) tells how to write one. In a formula, brackets name the axes of a tensor.
"""


def catalogue() -> list[dict[str, Any]]:
    """Every registered pass, as the command line describes it."""
    script = "from hycompile.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "passes", "--json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def render(passes: list[dict[str, Any]]) -> str:
    """The page as Markdown."""
    parts = [HEAD, _table(passes)]
    told: dict[str, str] = {}
    for entry in passes:
        parts.append(_section(entry, told))
    return "\n".join(parts).replace("``", "`")


def _table(passes: list[dict[str, Any]]) -> str:
    rows = [f"| [{entry['name']}](#{entry['name']}) | {entry['doc'].partition(chr(10))[0]} |" for entry in passes]
    return "\n".join(["| Pass | What it does |", "|---|---|", *rows]) + "\n"


def _section(entry: dict[str, Any], told: dict[str, str]) -> str:
    """A pass with its rules; a rule that an earlier pass has told is linked, not told again."""
    options = ", ".join(f"`{option}={json.dumps(default)}`" for option, default in entry["options"].items())
    budget = entry["budget"] or "exact, up to rounding"
    lines = [f"## {entry['name']}", "", entry["doc"], "", f"- Options: {options or 'none'}"]
    lines += [f"- Needs before it: {', '.join(entry['requires']) or 'nothing'}", f"- Error: {budget}"]
    for rule in entry["rules"]:
        name = rule["name"]
        if name in told:
            lines += ["", f"Rule `{name}`: see [{told[name]}](#{told[name]})."]
            continue
        told[name] = entry["name"]
        body = rule["doc"].removeprefix(rule["identity"]).strip()
        lines += ["", f"### {name}", "", f"    {rule['identity']}", *(["", body] if body else [])]
        lines += ["", f"Source: {rule['source']}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(catalogue()), encoding="utf-8")
