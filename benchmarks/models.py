"""The models every benchmark goes through, and how a worker gets one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

MODELS = (
    "nextvit_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvit_m2",
    "efficientvit_b1",
    "mobilevit_s",
    "mobilevitv2_100",
    "fastvit_t8",
    "repvit_m1_0",
    "mobileone_s0",
    "mobilenetv4_hybrid_medium",
    "levit_128",
    "edgenext_small",
    "tiny_vit_5m_224",
    "maxvit_tiny_tf_224",
    "coatnet_nano_rw_224",
    "swiftformer_xs",
    "shvit_s1",
    "hiera_tiny_224",
    "PP-OCRv6",
)


def load_module(model: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A module of its own in ``eval()`` with example inputs: capture may have filled caches of the one it was given.

    Args:
        model: a registered name or ``package.module:function``.
    """
    from hycompile import registry

    found = registry.find_model(model)
    if found is None:
        path, _, function = model.partition(":")
        module, args, *_ = getattr(import_module(path), function)()
        return module.eval(), args
    family, name = found
    built = family.build(name)
    return built.module, built.args


def place(model: str) -> tuple[int, str]:
    """Sorts models in the order of the list; any other comes last, by name."""
    return MODELS.index(model) if model in MODELS else len(MODELS), model
