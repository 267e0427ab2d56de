"""Which way imports point, read from the syntax tree; and what the command line must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

OUTER = ("passes", "backends", "models")
HEAVY = (
    "torch",
    "coremltools",
    "tvm",
    "executorch",
    "onnx",
    "onnxruntime",
    "timm",
    "transformers",
    "plotly",
    "tensorrt_rtx",
)


def _core_files() -> list[Path]:
    links = {ROOT / "hycompile" / name for name in OUTER}
    return sorted(path for path in (ROOT / "hycompile").rglob("*.py") if not links & set(path.parents))


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _arrows(paths: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    prefixes = tuple(f"hycompile.{name}" for name in forbidden) + tuple(forbidden)
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in _imported(path)
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
    ]


def test_core_imports_nothing_outside() -> None:
    files = _core_files()
    assert len(files) > 40
    # A name for a type, under TYPE_CHECKING: the registry says what it hands out.
    allowed = [("hycompile/registry.py", "hycompile.models.family.Family")]
    found = _arrows(files, OUTER)
    assert [arrow for arrow in found if not any(arrow.startswith(f) and arrow.endswith(n) for f, n in allowed)] == []


def test_the_exception_is_for_types_only() -> None:
    tree = ast.parse((ROOT / "hycompile" / "registry.py").read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    assert any("hycompile.models.family" in ast.unparse(node) for node in guarded)
    outside = [node for node in tree.body if node not in guarded]
    assert not any("hycompile.models" in ast.unparse(node) for node in outside)


@pytest.mark.parametrize("folder", OUTER)
def test_outer_folders_do_not_import_one_another(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert _arrows(files, tuple(name for name in OUTER if name != folder)) == []


def test_an_arrow_that_runs_back_is_found(tmp_path: Path) -> None:
    wrong = ROOT / "tests" / "test_imports.py"
    assert _arrows([wrong], ("passes",)) == []
    tree = "def f():\n    from hycompile.passes.affine import along\n    import hycompile.passes\n"
    (tmp_path / "x.py").write_text(tree)
    assert [line for line, name in _imported(tmp_path / "x.py") if name.startswith("hycompile.passes")] == [2, 3]


def test_command_line_loads_nothing_heavy() -> None:
    script = f"import sys, hycompile.cli.main, hycompile; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_works() -> None:
    script = "import sys; sys.argv = ['hycompile', '--help']; from hycompile.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    commands = ("build", "measure", "explain", "emit", "models", "passes", "devices", "doctor")
    assert [command for command in commands if command not in done.stdout] == []
