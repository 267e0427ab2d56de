"""Folders of calibration data: what is read, and what is wrong with those that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import hycompile as hy
from hycompile.errors import CaptureError
from hycompile.program import Program
from hycompile.quantisation.calibration import load_calibration
from tests.passes.quantise.models import hybrid

SHAPE = (2, 2, 6, 6)


class _Pair(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right

    def back(self, left: Tensor) -> Tensor:
        return -left


def _pair() -> Program:
    calls = {"forward": hy.Call((torch.zeros(2), torch.zeros(2))), "back": hy.Call((torch.zeros(2),), function="back")}
    return hy.capture(_Pair().eval(), methods=calls)


def test_three_kinds_of_files_in_order_of_their_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full(SHAPE, 1.0, np.float32))
    np.savez(tmp_path / "b.npz", x=np.full(SHAPE, 2.0, np.float32))
    save_file({"x": torch.full(SHAPE, 3.0)}, tmp_path / "c.safetensors")
    (tmp_path / ".hidden").write_text("not looked at")
    steps = load_calibration(hybrid(), tmp_path)
    assert [(step.method, float(step.inputs[0].mean())) for step in steps] == [("forward", n) for n in (1, 2, 3)]


def test_inputs_by_name_and_methods_by_folder(tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    save_file({"right": torch.ones(2), "left": torch.zeros(2)}, tmp_path / "0.safetensors")
    np.save(tmp_path / "back" / "0.npy", np.full(2, 5.0, np.float32))
    first, second = load_calibration(_pair(), tmp_path)
    assert [float(value.mean()) for value in first.inputs] == [0.0, 1.0]
    assert (second.method, float(second.inputs[0].mean())) == ("back", 5.0)


def _nan() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = np.zeros(SHAPE, np.float32)
    values[1, 1, 1, 1] = np.nan
    return values


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "is empty; put samples there"),
    "another kind": (lambda at: (at / "labels.txt").write_text("3"), "is no .npy, .npz, .safetensors file"),
    "names": (
        lambda at: np.savez(at / "0.npz", image=np.zeros(SHAPE, np.float32)),
        "holds 'image'; the inputs are 'x'",
    ),
    "no arrays": (lambda at: np.savez(at / "0.npz"), "holds nothing; the inputs are 'x'"),
    "shape": (
        lambda at: np.save(at / "0.npy", np.zeros((1, 6, 6), np.float32)),
        r"0.npy', input 'x': is float32\[1, 6, 6\], the method takes float32\[2, 2, 6, 6\]",
    ),
    "type": (lambda at: np.save(at / "0.npy", np.zeros(SHAPE)), r"is float64.*takes float32"),
    "not a number": (lambda at: np.save(at / "0.npy", _nan()), "input 'x': holds NaN; take the sample out"),
    "infinite": (lambda at: np.save(at / "0.npy", np.full(SHAPE, np.inf, np.float32)), "holds infinity"),
    "pickled": (lambda at: np.save(at / "0.npy", np.array([{}], object), allow_pickle=True), "cannot be read"),
    "truncated": (lambda at: (at / "0.npz").write_bytes(b"PK\x03\x04"), "cannot be read"),
    "no safetensors": (lambda at: (at / "0.safetensors").write_bytes(b"abc"), "cannot be read"),
    "a method there is not": (
        lambda at: ((at / "decode").mkdir(), np.save(at / "decode" / "0.npy", np.zeros(2, np.float32))),
        "has no method 'decode'; its methods are forward",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case: str, tmp_path: Path) -> None:
    make, told = WRONG[case]
    make(tmp_path)
    with pytest.raises(CaptureError, match=told):
        load_calibration(hybrid(), tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="is no folder"):
        load_calibration(hybrid(), tmp_path / "calibration")
