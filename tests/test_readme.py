"""Every command and every snippet of the README does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hycompile.cli.main import run
from tests.blocks import blocks, run_page

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SETUP = ("make", "OMP_NUM_THREADS=1")


def commands() -> list[str]:
    """Lines of the shell blocks, in order, comments left out."""
    lines = [line.strip() for block in blocks(README, "sh") for line in block.text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder, with a cache of their own."""
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def test_commands_run_in_the_order_they_stand(capfd: pytest.CaptureFixture[str]) -> None:
    """One after the other, since some use what others wrote; set-up commands have tests of their own."""
    lines = [line for line in commands() if not line.startswith(SETUP)]
    assert len(lines) >= 9
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program in ("hycompile", ".venv/bin/hycompile"), line
        capfd.readouterr()
        code = run(arguments)
        out, err = capfd.readouterr()
        assert code == 0, f"{line}\n{err}"
        assert out.strip(), f"{line} printed nothing"
        if arguments[0] == "build":
            assert re.search(r"^onnx +proved ", out, re.MULTILINE), out
    assert Path("hycompile-out/efficientvit_b0-host/report.html").is_file()
    assert "func.func @" in Path("efficientvit_b0.mlir").read_text()


def test_snippet_runs() -> None:
    assert run_page(README, blocks(README, "python")) == 1


def test_command_is_installed_where_the_readme_says() -> None:
    done = subprocess.run([ROOT / ".venv/bin/hycompile", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"hycompile \d+\.\d+\.\d+\n", done.stdout)


def test_make_targets_exist(make: Callable[..., str]) -> None:
    told = re.findall(r"^(\w+) +\S", make("help"), re.MULTILINE)
    wanted = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert {"dev", "test", "check", "docs"} <= wanted <= set(told)
    assert {*wanted, "demo", "help"} == set(told)
    for target in told:
        make("-n", target)


def test_make_test_is_the_command_told(make: Callable[..., str]) -> None:
    (told,) = [line for line in commands() if line.startswith("OMP_NUM_THREADS=1")]
    assert told in make("-n", "test").splitlines()
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_make_demo_runs_the_example(make: Callable[..., str]) -> None:
    (line,) = [line for line in make("-n", "demo").splitlines() if "examples/" in line]
    assert (ROOT / line.split()[1]).is_file()


@pytest.fixture
def make() -> Callable[..., str]:
    """Runs make in the repository and returns what it prints."""

    def call(*arguments: str) -> str:
        done = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    return call
