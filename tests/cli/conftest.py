"""Running command lines inside the test process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hycompile.cli.main import run

TOY = '''
import torch
from torch import nn


class Toy(nn.Module):
    """A convolution with batch norm, then attention over its positions."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))


def make():
    torch.manual_seed(0)
    toy = Toy().eval()
    toy.norm.running_mean.normal_(0, 0.1)
    toy.norm.running_var.uniform_(0.5, 1.5)
    return toy, (torch.randn(1, 3, 16, 16),)
'''


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's devices or cache, or writes into the checkout."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HYCOMPILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HYCOMPILE_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that runs one command line and returns exit code, stdout and stderr."""

    def call(*arguments: str) -> Ran:
        capfd.readouterr()
        code = run(arguments)
        out, err = capfd.readouterr()
        return Ran(code, str(out), str(err))

    return call


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A toy hybrid as ``package.module:function``."""
    (tmp_path / "toy_hybrid.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    return "toy_hybrid:make"
