"""A pass from another package: found by its entry point, run in a pipeline, and caught when its formula is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.support import ROOT

PLUGIN = ROOT / "tests" / "plugin"
RIGHT, WRONG = "s * (b - mean) + beta", "s * (b + mean) + beta"
SCRIPT = """
import json, torch
from torch import nn
import hycompile as hy
from hycompile import registry
from hycompile.errors import ParityError
from tests.support import sane

torch.manual_seed(0)
model = sane(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()))
program = hy.capture(model, (torch.randn(1, 3, 8, 8),))
said = {"names": registry.names("passes")}
try:
    program, report = hy.Pipeline.parse("normalise,fold-conv")(program)
    (rule,) = report.passes[1].rules
    said |= {"rule": rule.rule, "hits": rule.hits, "fp32": rule.error_fp32, "fp64": rule.error_fp64}
    said["left"] = "batch_norm" in program.text()
except ParityError as error:
    said["error"] = str(error)
print(json.dumps(said))
"""


def _install(site: Path, edit: tuple[str, str] = (RIGHT, RIGHT)) -> None:
    """What pip leaves of a wheel: the package and its metadata, with the entry points its pyproject declares."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    package = site / "hycompile_fold_conv"
    package.mkdir(parents=True)
    source = (PLUGIN / package.name / "__init__.py").read_text()
    assert source.count(edit[0]) == 1
    (package / "__init__.py").write_text(source.replace(*edit))
    info = site / "hycompile_fold_conv-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups: dict[str, dict[str, str]] = project["entry-points"]
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _run(site: Path) -> dict[str, Any]:
    path = os.pathsep.join([str(site), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_found_and_run(tmp_path: Path) -> None:
    _install(tmp_path / "site")
    said = _run(tmp_path / "site")
    assert "fold-conv" in said["names"]
    assert (said["rule"], said["hits"], said["left"]) == ("fold_conv", 1, False)
    assert said["fp32"] < 1e-5
    assert said["fp64"] < 1e-12


def test_wrong_sign_is_caught(tmp_path: Path) -> None:
    _install(tmp_path / "site", (RIGHT, WRONG))
    error = _run(tmp_path / "site")["error"]
    assert error.startswith("pass fold-conv, rule fold_conv: changed what the model computes: relative error ")
    found = re.search(r"relative error (\S+) at forward, output 0 in float32", error)
    assert found is not None
    assert 0.01 < float(found[1]) < 2


def test_it_is_ten_lines() -> None:
    """From the decorator to the last line of the pass, without the docstring of the class and blank lines."""
    lines = (PLUGIN / "hycompile_fold_conv" / "__init__.py").read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("@hy.rule"))
    body = [line for line in lines[start:] if line.strip() and not line.strip().startswith('"""Conv')]
    assert len(body) <= 10, body
