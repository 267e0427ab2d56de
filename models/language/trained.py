"""Weights that come with the package, of presets that were trained."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_FOLDERS = {"sambay-kjv": Path(__file__).parent / "sambay_kjv"}


def folder(preset: str) -> Path | None:
    """Where ``weights.safetensors`` (float16) and ``tokenizer.json`` of a preset are; None if it was not trained."""
    return _FOLDERS.get(preset)


def digest(preset: str) -> str:
    """SHA-256 of weights and tokenizer; empty if the preset was not trained."""
    found = folder(preset)
    if found is None:
        return ""
    files = (found / "weights.safetensors", found / "tokenizer.json")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def load(model: nn.Module, found: Path) -> None:
    """Fill every parameter, in place, from a folder of :func:`folder`."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(found / "weights.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
