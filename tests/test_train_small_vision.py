"""``examples/train_small_vision``: from images to weights, from curves to a table and a picture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from hycompile.models.small_vision.family import load, untrained
from hycompile.models.vision_data import fashion
from hycompile.models.vision_data.dataset import network_input

RECIPE = Path(__file__).parents[1] / "examples" / "train_small_vision"
NAME = "repvit-fashion-mnist-seed4"


def run(script: str, *arguments: str, folder: Path) -> str:
    """What a script of the recipe prints, with data from the cache in ``folder``."""
    done = subprocess.run(
        [sys.executable, str(RECIPE / script), *arguments],
        cwd=folder,
        env=os.environ | {"HYCOMPILE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def images(tmp_path: Path) -> dict[str, np.ndarray]:
    """Two classes that a network tells apart at once, bright and dark, in the cache as if they had been fetched."""
    labels = np.arange(64) % 2
    bright = np.full((64, 28, 28), 40, np.uint8) + (160 * labels).astype(np.uint8)[:, None, None]
    parts = {"train_images": bright, "train_labels": labels, "test_images": bright[:16], "test_labels": labels[:16]}
    path = tmp_path / "cache" / "data" / f"fashion-mnist-{fashion.PACKAGE.sha256[:16]}-{fashion.REVISION}.npz"
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, allow_pickle=False, classes=np.array(fashion.CLASSES), **parts)
    return parts


def test_training_learns_and_writes_what_it_evaluated(images: dict[str, np.ndarray], tmp_path: Path) -> None:
    options = "--networks repvit --data fashion-mnist --seeds 4 --batch 16 --epochs 2.5 --out run"
    said = run("train.py", *options.split(), folder=tmp_path)
    facts = json.loads((tmp_path / "run" / "curves.json").read_text())
    (row,) = facts["runs"]
    assert (row["network"], row["data"], row["seed"], row["steps"]) == ("repvit", "fashion-mnist", 4, 10)
    assert facts["options"]["epochs"] == 2.5
    assert [point["epoch"] for point in row["curve"]] == [0.25 * number for number in range(1, 11)]
    assert row["curve"][-1]["loss"] < 0.75 * row["curve"][0]["loss"]
    assert f"{NAME}: {row['curve'][-1]}" in said
    network = untrained("repvit", "fashion-mnist").eval()
    load(network, tmp_path / "run" / f"{NAME}.safetensors")
    guessed = network(network_input(images["test_images"])).argmax(1).numpy()
    assert row["top1"] == pytest.approx(100 * float((guessed == images["test_labels"]).mean()), abs=0.01)


def test_the_table_is_that_of_the_curves(tmp_path: Path) -> None:
    said = run("report.py", str(RECIPE / "curves.json"), "--out", ".", folder=tmp_path)
    rows = json.loads((RECIPE / "curves.json").read_text())["runs"]
    assert json.loads((tmp_path / "curves.json").read_text())["runs"] == rows
    assert said.strip() in (RECIPE / "README.md").read_text()
    found = {float(cell) for line in said.splitlines()[2:] for cell in re.findall(r"\d+\.\d\d", line)}
    assert {row["top1"] for row in rows} <= found
    svg = (tmp_path / "curves.svg").read_text()
    assert svg == (RECIPE / "curves.svg").read_text()
    lines = ET.fromstring(svg).findall("{http://www.w3.org/2000/svg}polyline")
    points = [len(row["curve"]) for row in rows if row["seed"] == 0]
    assert [len(line.attrib["points"].split()) for line in lines] == points
    assert len(points) == 12


def test_images_are_mirrored_and_shifted_by_whole_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.syspath_prepend(str(RECIPE))
    from augment import Changes, augment  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(200, 1, 8, 8)
    images[:, :, 3, 2] = 1
    changed = augment(images, Changes(shift=1, rotation=0.0, scale=0.0), generator)
    places = {tuple(image[0].nonzero()[0].tolist()) for image in changed.round(decimals=4)}
    assert places == {(row, column) for row in (2, 3, 4) for column in (1, 2, 3, 4, 5, 6)}
    assert torch.allclose(changed.sum((1, 2, 3)), torch.ones(200), atol=1e-4)
