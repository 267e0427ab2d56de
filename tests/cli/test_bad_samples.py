"""Calibration sets that cannot be used: one error, its own exit code, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hycompile as hy

Cli = Callable[..., Any]

_INT8 = ("--device", "host", "--runtime", "onnx", "--no-measure", "--pipeline", "quantise")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two samples that fit the toy."""
    folder, generator = tmp_path / "samples", np.random.default_rng(0)
    folder.mkdir()
    for number in range(2):
        np.save(folder / f"{number}.npy", generator.standard_normal((1, 3, 16, 16)).astype(np.float32))
    return folder


def _refused(cli: Cli, model: str, code: int, kind: str, told: str) -> None:
    ran = cli("build", model, *_INT8, "--calibration", "samples", "--json")
    assert ran.code == code
    assert told in " ".join(ran.err.split())
    assert ran.document["error"]["kind"] == kind
    assert not Path("hycompile-out").exists()
    assert not list(Path("cache").rglob("manifest.json"))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _mismatched(folder: Path) -> None:
    np.save(folder / "8.npy", np.zeros((1, 3, 8, 8), np.float32))


def _nan(folder: Path) -> None:
    values = np.zeros((1, 3, 16, 16), np.float32)
    values[0, 1, 2, 3] = np.nan
    np.save(folder / "8.npy", values)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_empty, "calibration 'samples': is empty; put samples there"),
        (_mismatched, "input 'x': is float32[1, 3, 8, 8], the method takes float32[1, 3, 16, 16]"),
        (_nan, "input 'x': holds NaN; take the sample out, or mend it"),
    ],
)
def test_samples_that_do_not_fit(cli: Cli, toy: str, folder: Path, spoil: Callable[[Path], None], told: str) -> None:
    spoil(folder)
    _refused(cli, toy, 3, "CaptureError", told)


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def back(self, x: Tensor) -> Tensor:
        return self.linear(-x)


def test_samples_that_never_reach_a_method(cli: Cli, tmp_path: Path) -> None:
    calls = {"forward": hy.Call((torch.randn(2, 4),)), "back": hy.Call((torch.randn(2, 4),), function="back")}
    hy.capture(_Two().eval(), methods=calls, name="two").save(tmp_path / "two.hyc")
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "0.npy", np.ones((2, 4), np.float32))
    told = "is never reached by the calibration set; add samples that call 'back'"
    _refused(cli, "two.hyc", 4, "PassError", told)
