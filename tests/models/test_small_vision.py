"""The small vision networks: every training loads, is as accurate as its table says, and survives the pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from hycompile import registry
from hycompile.cache import Cache
from hycompile.compile import Request, build
from hycompile.errors import CaptureError
from hycompile.models.small_vision.family import CLASSES, NETWORKS, SEEDS, Trained, load, sample, save, untrained
from hycompile.models.vision_data.dataset import network_input
from tests.support import ROOT

CURVES = ROOT / "examples" / "train_small_vision" / "curves.json"
ROWS: list[dict[str, Any]] = json.loads(CURVES.read_text())["runs"]
EVERY = [Trained(network, data, seed) for network in NETWORKS for data in CLASSES for seed in SEEDS]


def test_every_training_is_in_the_table() -> None:
    assert sorted((row["network"], row["data"], row["seed"]) for row in ROWS) == sorted(EVERY)
    assert registry.family("small-vision").names() == sorted(training.name for training in EVERY)


@pytest.mark.parametrize("training", EVERY, ids=lambda training: training.name)
def test_weights_are_as_accurate_as_the_table_says(training: Trained) -> None:
    """A hundred test images: within three standard errors of the figure on all of them."""
    row = next(row for row in ROWS if (row["network"], row["data"], row["seed"]) == training)
    module = registry.family("small-vision").build(training.name).module
    assert sum(parameter.numel() for parameter in module.parameters()) == row["parameters"]
    images, labels = sample(training.data).images, torch.from_numpy(sample(training.data).labels)
    with torch.no_grad():
        right = (module(network_input(images)).argmax(1) == labels).float().mean().item()
    share = row["top1"] / 100
    assert abs(right - share) < 3 * (share * (1 - share) / len(labels)) ** 0.5


def test_weights_are_small_and_in_float16() -> None:
    for training in EVERY:
        assert training.weights.stat().st_size < 1e6
        with safe_open(training.weights, "pt") as weights:
            kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert {kind for name, kind in kinds.items() if ".running_" not in name} == {"F16"}


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = untrained("repvit", "fashion-mnist").eval(), untrained("repvit", "fashion-mnist").eval()
    images = network_input(sample("fashion-mnist").images[:4])
    save(first, tmp_path / "weights.safetensors")
    load(first, tmp_path / "weights.safetensors")
    assert not torch.equal(first(images), second(images))
    load(second, tmp_path / "weights.safetensors")
    assert torch.equal(first(images), second(images))


def test_another_resolution_is_refused() -> None:
    with pytest.raises(CaptureError, match="at resolution 64: it was trained at 32; leave --resolution out"):
        registry.family("small-vision").build("small-vision/nextvit-fashion-mnist", resolution=64)


def test_seeds_choose_the_example_image() -> None:
    family, name = registry.family("small-vision"), "small-vision/repvit-fashion-mnist"
    images = [family.build(name, seed=seed).args[0] for seed in (0, 1, 101)]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[1], images[2])


def test_a_trained_network_is_built_for_this_host(tmp_path: Path) -> None:
    request = Request("small-vision/nextvit-quickdraw-345", runtimes=["onnx"], prove=False)
    (runtime,) = build(request, cache=Cache(tmp_path)).runtimes
    assert runtime.status == "proved", runtime
    assert runtime.rel_err is not None
    assert runtime.rel_err < 1e-5
