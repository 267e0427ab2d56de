"""Attention between permutes of its last two axes: matrix products, which MIL transposes operands of for nothing."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.builder import Builder, Value
from hycompile.masks import additive, masked_row
from hycompile.program import constant
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call


def take_in_swaps(module: GraphModule) -> int:
    """attention(q, k, v) = softmax(s q k^T + mask) v, where q, k or v is a transpose, or only the transpose is read.

    ``scaled_dot_product_attention`` of MIL takes none of these in, so that each would be a copy. Left alone are causal
    attention and masks that may hide all keys of a query: there a plain softmax is another function.

    Returns:
        How many became products.
    """
    found = [node for node in module.graph.nodes if is_call(node, "aten.scaled_dot_product_attention")]
    return sum(_take_in(module, node) for node in found)


def _take_in(module: GraphModule, node: Node) -> bool:
    bound = bind(node)
    q, k, v = (Value(bound[name]) for name in ("query", "key", "value"))
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    turned = reader is not None and _is_swap(reader)
    if not (turned or any(_is_swap(value.node) for value in (q, k, v))):
        return False
    if bound["is_causal"] or bound["enable_gqa"] or bound["dropout_p"] or masked_row(module, node) is not None:
        return False
    build = Builder(module, node, "attention")
    factor = q.shape[-1] ** -0.5 if bound["scale"] is None else bound["scale"]
    scores = build.call("aten.matmul", q, _swapped(build, k))
    if factor != 1:
        scores = build.call("aten.mul.Tensor", scores, factor)
    if bound["attn_mask"] is not None:
        scores = build.call("aten.add.Tensor", scores, _mask(module, bound["attn_mask"]))
    shares = build.call("aten.softmax.int", scores, -1)
    if turned and reader is not None:
        result = build.call("aten.matmul", _swapped(build, v), _swapped(build, shares))
        reader.replace_all_uses_with(result.node, propagate_meta=False)
        erase_dead(module, reader)
    else:
        node.replace_all_uses_with(build.call("aten.matmul", shares, v).node, propagate_meta=False)
        erase_dead(module, node)
    module.recompile()
    return True


def _mask(module: GraphModule, mask: Node) -> Tensor | Value:
    known = constant(module, mask)
    return Value(mask) if known is None else additive(known)


def _is_swap(node: Node) -> bool:
    """Whether a node swaps the last two axes and does nothing else."""
    if not is_call(node, "aten.permute", "aten.transpose.int"):
        return False
    rank = len(node.meta["val"].shape)
    if is_call(node, "aten.transpose.int"):
        bound = bind(node)
        return {bound["dim0"] % rank, bound["dim1"] % rank} == {rank - 2, rank - 1}
    return [dim % rank for dim in bind(node)["dims"]] == [*range(rank - 2), rank - 1, rank - 2]


def _swapped(build: Builder, value: Value) -> Value:
    if _is_swap(value.node):
        return Value(value.node.all_input_nodes[0])
    return build.call("aten.transpose.int", value, -2, -1)
