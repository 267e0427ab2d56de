"""What stays in float because of how weights and activations are rounded, whatever kind of layer it is."""

from __future__ import annotations

import math
from dataclasses import replace

from hycompile.passes.quantise.layers import Layer, Survey
from hycompile.program import Method, constant
from hycompile.quantisation.state_path import keeps_state
from hycompile.schema import is_call

# Below this, scales would weigh as much as the numbers they are for.
_SMALLEST_GROUP = 32


def restrict(method: Method, found: Survey, *, dynamic: bool, group: int, state: bool) -> Survey:
    """The survey without the layers that cannot be rounded as asked; these are kept in float, with the reason.

    Args:
        method: that was surveyed.
        found: its layers.
        dynamic: ranges of inputs are found at run time: linears only, whose results stay in float.
        group: so many weights of an output channel of a linear share a scale; 0 for all.
        state: layers that make what a recurrence decays by are rounded, too.
    """
    survey = Survey(kept=list(found.kept))
    for layer in found.layers:
        reason = _reason(method, layer, dynamic, group, state)
        if reason is not None:
            survey.kept.append((layer.node, reason))
        else:
            survey.layers.append(replace(layer, output=None) if dynamic else layer)
    return survey


def fit_group(inputs: int, group: int) -> int | None:
    """The largest group that ``inputs`` values split into, at most ``group``; None for one scale over all of them.

    Raises:
        ValueError: they split into groups of fewer than 32 only.
    """
    if inputs <= group:
        return None
    found = math.gcd(inputs, group)
    if found < min(_SMALLEST_GROUP, group):
        raise ValueError(f"its {inputs} inputs do not split into groups of {group}, nor of {_SMALLEST_GROUP} or more")
    return found


def _reason(method: Method, layer: Layer, dynamic: bool, group: int, state: bool) -> str | None:
    if not state and layer.weight is not None and keeps_state(layer.weight):
        return "it is on the state path of a recurrence, where errors add up over tokens (quantise{state=true})"
    linear = is_call(layer.node, "aten.linear")
    if dynamic and not linear:
        return "runtimes find ranges at run time for linears only (quantise{activations=asymmetric})"
    if group and linear:
        weight = constant(method.graph, layer.weight)
        assert weight is not None
        try:
            fit_group(weight.shape[1], group)
        except ValueError as error:
            return str(error)
    return None
