"""A multiplier into the weights of everything that reads it."""

from __future__ import annotations

from hycompile.builder import Value
from hycompile.passes.absorb.consumers import find_consumers
from hycompile.passes.absorb.operator import LinearOperator
from hycompile.passes.absorb.paths import Axis
from hycompile.passes.absorb.readers import readers_of
from hycompile.passes.affine import Affine
from hycompile.passes.fold_multipliers.absorbers import MULTIPLIER
from hycompile.passes.fold_scale.pattern import require_finite
from hycompile.rewrite import require, rule
from hycompile.schema import bind, is_call


@rule(MULTIPLIER, source="linearity; P-1, R10', R11 and R16 of the rule catalogue")
def fold_multiplier_into_consumers(map: Value, x: Value, affine: Affine, axis: Axis) -> Value:
    """W (s x) + b = (W diag(s)) x + b.

    Given: a multiplication or division by a constant all of whose uses end in convolutions or linears, through
    operators a factor may pass: moves, pools, means, selections, products (a gated memory unit), ReLU.
    Result: the multiplier is gone, every such operator has a scaled weight.

    Refused when a use is not linear, and for a linear that shares its weight with an embedding: the table would be
    there twice.
    """
    require_finite(affine)
    consumers = find_consumers(map.node, axis, affine, "the multiplier")
    for consumer in consumers:
        _require_own_weight(consumer)
    for consumer in consumers:
        consumer.take(affine)
    return x


def _require_own_weight(consumer: LinearOperator) -> None:
    node = consumer.node
    readers = readers_of(node.graph.owning_module, bind(node)["weight"])  # type: ignore[arg-type]
    tables = [reader.name for reader in readers if is_call(reader, "aten.embedding")]
    require(not tables, "{} shares its weight with {}", node.name, ", ".join(tables))
