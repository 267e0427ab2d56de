"""Lets torchvision be imported beside a torch it has no compiled operators for.

timm and transformers import torchvision for image transforms. On import torchvision describes its operators to
torch by name; where its compiled library does not load (its wheel was built for another torch, for example the CPU
build) those names do not exist and the import fails with "operator torchvision::nms does not exist". Declaring the
two schemas makes the import succeed; the operators themselves stay without an implementation, and none of the models
here calls them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from functools import cache
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def declare_missing_operators() -> Any:
    """Declare what torchvision lacks; call before importing timm or transformers vision models.

    Does nothing where torchvision is not installed or where its compiled library loads. Returns the declaring
    library, whose lifetime bounds the schemas', or None.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None or _compiled_operators_load():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


def _compiled_operators_load() -> bool:
    """True where torchvision's own library loads, exactly as torchvision itself would load it."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or []:
        finder = importlib.machinery.PathFinder.find_spec("_C", [folder])
        if finder is None or finder.origin is None:
            continue
        try:
            torch.ops.load_library(finder.origin)
        except (ImportError, OSError):
            return False
        return True
    return False
