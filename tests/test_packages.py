"""What is installed is what lies in the folders: the package list, entry points, and the size of files."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = ("hycompile.passes", "hycompile.backends", "hycompile.models")
OUTER = ("passes", "backends", "models")


def _packages() -> set[str]:
    """Dotted names of all folders with an ``__init__.py``; the links inside hycompile are the folders beside it."""
    found: set[str] = set()
    for top in ("hycompile", *OUTER):
        for init in (ROOT / top).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT).parts
            if top == "hycompile" and len(inside) > 1 and inside[1] in OUTER:
                continue
            found.add(".".join(inside if top == "hycompile" else ("hycompile", *inside)))
    return found


def test_package_list_matches_the_folders() -> None:
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(_packages())


@pytest.mark.parametrize("name", OUTER)
def test_links(name: str) -> None:
    link = ROOT / "hycompile" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"hycompile.{name}"] == name


@pytest.mark.parametrize("group", GROUPS)
def test_entry_points_load(group: str) -> None:
    declared: dict[str, str] = PROJECT["project"]["entry-points"][group]
    for name, value in declared.items():
        loaded = EntryPoint(name, value, group).load()
        assert name == getattr(loaded, "name", name) or group == "hycompile.models"
    installed = {point.name: point.value for point in entry_points(group=group)}
    assert declared.items() <= installed.items(), "reinstall: pip install -e ."


def test_no_file_grows_too_long() -> None:
    folders = ("hycompile", *OUTER, "tests", "examples", "benchmarks")
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name: lines for name, lines in sizes.items() if lines > 300} == {}
