"""The pages under ``docs/``: what they show is what happens, what they link to exists, what is generated is fresh."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hycompile.cli.failure import EXIT_CODES
from hycompile.device import known, load_target
from tests.blocks import blocks, run_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
CONCEPTS = {
    *("program", "normal-form", "rules", "pipelines", "passes", "backends"),
    *("devices", "parity", "float16", "cache", "cli", "measuring", "tuning", "security"),
    *("language", "quantisation"),
}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages run in a folder of their own, with a cache of their own, and may import what they saved."""
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("page", [name for name in PAGES if blocks(DOCS / name, "python")])
def test_examples_of_page_run(page: str) -> None:
    path = DOCS / page
    assert run_page(path, blocks(path, "python", "text", "toml")) >= 1
    sys.modules.pop("shift_pass", None)


def test_every_concept_has_a_page() -> None:
    assert {f"{name}.md" for name in CONCEPTS} == set(PAGES)


@pytest.mark.parametrize("page", [*TOP, *(f"docs/{name}" for name in PAGES)])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(((?!https?:)[^)#]*)(?:#([^)]*))?\)", text):
        there = (path.parent / target) if target else path
        assert there.exists(), f"{page} links to {target}"
        if anchor:
            headings = [
                line.strip("# ").lower().replace(" ", "-") for line in there.read_text().splitlines() if line[:1] == "#"
            ]
            assert anchor in headings, f"{page} links to {target}#{anchor}"


def test_catalogue_is_fresh() -> None:
    generate = _generator()
    passes = generate.catalogue()
    assert {"normalise", "reparameterise", "fold-batch-norm"} <= {entry["name"] for entry in passes}
    assert generate.render(passes) == generate.PAGE.read_text(encoding="utf-8"), "run `make docs`"


def test_exit_codes_are_those_of_the_program() -> None:
    told = re.findall(r"^  (\d+) +(.+)$", EXIT_CODES, re.MULTILINE)
    shown = re.findall(r"^\| (\d+) \| (.+) \|$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    assert shown == told


def test_devices_are_those_that_come_with_hycompile() -> None:
    shown = re.findall(r"^\| `([\w-]+)` \| ([\w, ]+) \| (fp\d+) \|$", (DOCS / "devices.md").read_text(), re.MULTILINE)
    targets = [load_target(str(path)) for path in known().values()]
    assert sorted(shown) == sorted((target.name, ", ".join(target.runtimes), target.precision) for target in targets)


_USE = """
import torch
from torch import nn
import hycompile as hy
from hycompile.errors import HycompileError


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.shift = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.linear(x) + self.shift


program = hy.capture(Shifted().eval(), (torch.randn(2, 4),))
try:
    _, report = hy.Pipeline.parse("normalise,fold-shift")(program)
except HycompileError as error:
    print(error)
else:
    print(report.passes[1].rules[0].rule, report.passes[1].rules[0].hits)
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("bias + shift)", "bias + shift)"), "fold_shift 1"),
        (
            ("bias + shift)", "bias - shift)"),
            "pass fold-shift, rule fold_shift: changed what the model computes: relative error",
        ),
    ],
    ids=["right", "wrong"],
)
def test_pass_written_from_the_page_in_a_package_of_its_own(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    """Found by entry point in another process; its wrong version is caught with rule and error."""
    saved = {block.file: block.text for block in blocks(DOCS / "rules.md") if block.file is not None}
    assert change[0] in saved["shift_pass.py"]
    _install(saved, tmp_path / "site", change)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", _USE], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(told), done.stdout + done.stderr


def _install(saved: dict[str, str], site: Path, change: tuple[str, str]) -> None:
    """What ``pip install`` makes of the page's package: its module, and its entry points as metadata."""
    project = tomllib.loads(saved["pyproject.toml"])["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (site / "shift_pass.py").write_text(saved["shift_pass.py"].replace(*change))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
