"""Errors: one line on stderr, the documented exit code, JSON where asked for, never a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hycompile.cli import devices, main
from hycompile.cli.failure import EXIT_CODES
from hycompile.errors import HycompileError

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["build", "x", "--device", "pixel9"], 7, "did you mean 'pixel-9'?"),
        (["devices", "show", "nothing.toml"], 7, "no such file"),
        (["build", "x", "--device", "host", "--recipe", "nothing.toml"], 7, "`hycompile tune` writes one"),
        (["tune", "nextvit_smal", "--device", "host", "--runtime", "onnx"], 3, "nextvit_small"),
        (["tune", "x", "--device", "host", "--runtime", "coreml"], 6, "tune on the device itself"),
        (["biuld"], 2, "Did you mean 'build'?"),
        (["build", "x"], 2, "Missing option '--device'"),
        (["build", "x", "--device", "host", "--precision", "fp8"], 2, "fp8"),
        (["measure", "nowhere"], 8, "holds no manifest.json"),
        (["measure", "nowhere", "--size", "h"], 2, "'h' is not NAME=N"),
        (["passes", "fold-batch-nrm"], 4, "did you mean 'fold-batch-norm'?"),
        (["build", "missing.pt2", "--device", "host"], 3, "no such file"),
        (["build", "no.such.module:function", "--device", "host"], 3, "cannot be imported"),
        (["build", "nextvit_smal", "--device", "host"], 3, "nextvit_small"),
        (["build", "nextvit_small", "--device", "host", "--runtime", "onx"], 6, "did you mean 'onnx'?"),
        (["models", "no-such-model-*"], 3, "matches no registered model"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_one_line_and_exit_code(cli: Cli, arguments: list[str], code: int, part: str, as_json: bool) -> None:
    ran = cli(*arguments, *(["--json"] if as_json else []))
    assert ran.code == code
    lines = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert part in lines[0]
    assert "Traceback" not in ran.err
    if as_json:
        assert ran.document["error"]["exit_code"] == code
        assert part in ran.document["error"]["message"]
    else:
        assert ran.out == ""


def test_every_exit_code_of_the_family_is_documented() -> None:
    codes = {kind.exit_code for kind in HycompileError.__subclasses__()}
    documented = {int(line.split()[0]) for line in EXIT_CODES.splitlines() if line.strip()[:1].isdigit()}
    assert documented == codes | {0, 1, 2, 130}


def broken(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "big.pte"),
            8,
            "error: big.pte: No space left on device; free space or give another folder",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "out"),
            8,
            "error: out: Permission denied; check the path and its permissions",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            RuntimeError("two\nlines"),
            1,
            "error: internal: RuntimeError: two lines; HYCOMPILE_TRACEBACK=1 shows where, please report it",
        ),
    ],
)
def test_errors_that_are_not_of_the_family(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr(devices, "print_json", broken(error))
    ran = cli("devices", "--json")
    assert ran.code == code
    assert ran.err == line + "\n"


def test_traceback_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYCOMPILE_TRACEBACK", "1")
    ran = cli("devices", "show", "pixel9")
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.splitlines()[-1].startswith("error: device 'pixel9'")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = "from hycompile.cli.main import main; main()"
    command = f"'{sys.executable}' -c '{program}' passes --json | head -c 1"
    ran = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stdout == "["
    assert ran.stderr == ""


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hycompile", "devices", "show", "pixel9"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 7


def test_no_arguments_is_help(cli: Cli, tmp_path: Path) -> None:
    assert "Commands:" in cli().out
    assert list(tmp_path.iterdir()) == []
