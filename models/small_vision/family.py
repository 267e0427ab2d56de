"""The family ``small-vision``: six hybrids on two data sets, trained three times each, weights included."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hycompile.errors import CaptureError
from hycompile.models.family import Built, Description

if TYPE_CHECKING:
    from torch import nn

    from hycompile.models.vision_data.dataset import Split

# Family of networks -> module and constructor, which takes the number of classes.
NETWORKS = {
    "efficientformer": "efficientformer:efficientformer",
    "efficientvit": "efficientvit:EfficientVit",
    "mobilevit": "mobilevit:mobilevit",
    "mobilevitv2": "mobilevitv2:mobilevitv2",
    "nextvit": "nextvit:NextVit",
    "repvit": "repvit:repvit",
}
CLASSES = {"fashion-mnist": 10, "quickdraw-345": 345}
SEEDS = (0, 1, 2)
_PREFIX, _SIZE = "small-vision/", 32
_FOLDER = Path(__file__).parent


class Trained(NamedTuple):
    """One training: which network, on which data, from which seed."""

    network: str
    data: str
    seed: int

    @property
    def name(self) -> str:
        """The registered name; the first seed goes without saying."""
        return f"{_PREFIX}{self.network}-{self.data}" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def weights(self) -> Path:
        return _FOLDER / "weights" / f"{self.network}-{self.data}-seed{self.seed}.safetensors"


class SmallVision:
    """Names are ``small-vision/``, network and data set, and ``-seed1`` or ``-seed2`` for the other two trainings."""

    name = "small-vision"

    def names(self) -> list[str]:
        return sorted(_trainings())

    def aliases(self) -> Mapping[str, str]:
        return {}

    def describe(self, name: str) -> Description:
        found = _training(name)
        source = f"timm's blocks in a small plan, trained on {found.data} from seed {found.seed}"
        return Description(name, self.name, (1, 1, _SIZE, _SIZE), "Apache-2.0", source, pretrained=True)

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        weights = hashlib.sha256(_training(name).weights.read_bytes()).hexdigest()
        versions = " ".join(f"{package} {importlib.metadata.version(package)}" for package in ("timm", "torch"))
        return f"{name} resolution={resolution} seed={seed} weights={weights} {versions}"

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        """The trained network; its example input is a test image, another one for every ``seed``."""
        found = _training(name)
        if resolution not in (None, _SIZE):
            raise CaptureError(
                f"model {name!r} at resolution {resolution}", "it was trained at 32", "leave --resolution out"
            )
        from hycompile.models.vision_data.dataset import network_input

        network = untrained(found.network, found.data)
        load(network, found.weights)
        images = sample(found.data).images
        return Built(network.eval(), (network_input(images[[seed % len(images)]]),))


def untrained(network: str, data: str) -> nn.Module:
    """A network as its constructor initialises it, with as many classes as the data set has."""
    from hycompile.models.torchvision_schemas import declare_missing_operators

    declare_missing_operators()
    module, _, constructor = NETWORKS[network].partition(":")
    try:
        found = import_module(f"hycompile.models.small_vision.{module}")
    except ModuleNotFoundError as error:
        raise CaptureError("timm", f"cannot be imported ({error})", "pip install timm") from error
    return getattr(found, constructor)(CLASSES[data])


def save(network: nn.Module, path: Path) -> None:
    """Write parameters in float16 and batch-norm statistics, which may be smaller than that holds, in float32."""
    from safetensors.torch import save_file

    tensors = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    kept = {name: value if ".running_" in name else value.half() for name, value in tensors.items()}
    save_file({name: value.cpu().contiguous() for name, value in kept.items()}, path)


def load(network: nn.Module, path: Path) -> None:
    """Fill a network, in place, from what :func:`save` wrote."""
    from safetensors.torch import load_file

    saved = load_file(path)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(saved[name])


def sample(data: str) -> Split:
    """A hundred test images of a data set with their labels, which come with the package.

    Fashion-MNIST: MIT. Quick, Draw!: made available by Google, Inc. under CC-BY-4.0.
    """
    from safetensors.numpy import load_file

    from hycompile.models.vision_data.dataset import Split

    parts = load_file(_FOLDER / "samples" / f"{data}.safetensors")
    return Split(parts["images"], parts["labels"])


def _trainings() -> dict[str, Trained]:
    every = (Trained(network, data, seed) for network in NETWORKS for data in CLASSES for seed in SEEDS)
    return {training.name: training for training in every}


def _training(name: str) -> Trained:
    found = _trainings().get(name)
    if found is None:
        raise CaptureError(f"model {name!r}", "not a small vision model", "`hycompile models` lists them")
    return found


family = SmallVision()
