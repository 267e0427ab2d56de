"""The model to train: ``language/sambay-kjv`` before its training, which that name alone no longer gives."""

from __future__ import annotations

from torch import nn

from hycompile.models.language.family import build_plan
from hycompile.models.language.presets import PLANS


def sambay_kjv(seed: int) -> nn.Module:
    """Random weights of a seed."""
    return build_plan(PLANS["sambay-kjv"], seed).module
