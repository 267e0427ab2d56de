"""A multiplier of queries or keys into the scale of attention."""

from __future__ import annotations

from torch.fx import Node

from hycompile.builder import Value, edit
from hycompile.passes.absorb.paths import Axis, passes_down
from hycompile.passes.affine import Affine
from hycompile.passes.fold_multipliers.absorbers import MULTIPLIER
from hycompile.passes.fold_scale.pattern import require_finite
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call, operator_name

_ATTENTION = "aten.scaled_dot_product_attention"


@rule(MULTIPLIER, source="(s q) k = s (q k); P-1 and R12a of the rule catalogue")
def fold_multiplier_into_attention(map: Value, x: Value, affine: Affine, axis: Axis) -> Value:
    """SDPA(s q, k, v; scale t) = SDPA(q, k, v; scale s t),  and the same for keys.

    Given: one number that multiplies queries or keys, all of whose uses end there, through moves and selections.
    Result: attention with another scale, no multiplier.

    Refused when it is not one number, has another use, or is both queries and keys of one attention.
    """
    require_finite(affine)
    require(axis is None, "it has one value a channel, the scale of attention is one number")
    found = _attentions(map.node, affine)
    for attention in found:
        edit(Value(attention), scale=_scale(attention) * affine.scale.item())
    return x


def _attentions(node: Node, affine: Affine) -> list[Node]:
    found: list[Node] = []
    for user in node.users:
        a = bind(user)
        if is_call(user, _ATTENTION):
            places = [name for name, given in a.items() if given is node]
            require(places in (["query"], ["key"]), "{} is {} of {}", node.name, " and ".join(places), user.name)
            _scale(user)
            found.append(user)
            continue
        passes, _ = passes_down(user, node, None, affine)
        require(passes, "{} uses it and is not attention", operator_name(user))
        found += _attentions(user, affine)
    require(found, "nothing uses it")
    require(len(set(found)) == len(found), "it is both queries and keys of one attention")
    return found


def _scale(attention: Node) -> float:
    a = bind(attention)
    size = a["query"].meta["val"].shape[-1]
    require(a["scale"] is not None or isinstance(size, int), "the size {} of a head is dynamic", size)
    return a["scale"] if a["scale"] is not None else size**-0.5
