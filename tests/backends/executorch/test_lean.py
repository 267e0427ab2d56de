"""Lowering without idle work writes the very bytes that stock lowering writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, traceback
from torch.nn import functional

from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.quiet import quiet_executorch
from hycompile.capture import capture
from hycompile.program import Program
from hycompile.target import Target
from tests.support import sane

with quiet_executorch():
    from hycompile.backends.executorch import edge, lowering

MakeTarget = Callable[..., Target]


class Everything(nn.Module):
    """Operators that XNNPACK's skipped passes look for (concatenation, prelu, upsampling), and what falls out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8)
        self.head = nn.Linear(6 * 8, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(image)))
        up = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        pooled = functional.max_pool2d(up, 2)
        tokens = torch.cat([x, pooled, x + 1, x * 2, x.sigmoid(), x.tanh()], 1).flatten(2).transpose(1, 2)
        return self.head(tokens.cumsum(1)).softmax(-1)


@pytest.fixture
def everything() -> Program:
    torch.manual_seed(0)
    return capture(sane(Everything()), (torch.randn(1, 3, 8, 8),))


def _bytes(program: Program, target: Target, folder: Path) -> bytes:
    folder.mkdir()
    Executorch().lower(program, target, folder)
    return (folder / "model.pte").read_bytes()


def test_bytes_are_those_of_stock_lowering(
    everything: Program, target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lean = _bytes(everything, target(), tmp_path / "lean")
    for module in (edge, lowering):
        monkeypatch.setattr(module, "lean", contextlib.nullcontext)
    assert _bytes(everything, target(), tmp_path / "stock") == lean


def test_conversion_is_shared_with_the_survey(
    everything: Program, target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = _bytes(everything, target(), tmp_path / "alone")
    Executorch().obstacles(everything, target())

    def never(*_: object) -> None:
        raise AssertionError("converted a second time")

    monkeypatch.setattr(edge, "_convert", never)
    assert _bytes(everything, target(), tmp_path / "after") == alone


def test_torch_is_left_as_it_was() -> None:
    before = (GraphModule.recompile, traceback.set_current_meta)
    with edge.lean():
        assert before != (GraphModule.recompile, traceback.set_current_meta)
        inside = torch.fx.symbolic_trace(nn.Sequential(nn.ReLU()))
        assert inside(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
    assert before == (GraphModule.recompile, traceback.set_current_meta)
    assert inside(torch.tensor([-3.0])).tolist() == [0.0]
