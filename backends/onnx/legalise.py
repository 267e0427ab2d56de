"""Rewrites that turn what the ONNX exporter cannot translate into an equal form that it can."""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule, Node

from hycompile.backends.onnx.groups import multiply_groups
from hycompile.fake import fake_mode, infer
from hycompile.quantisation.int8 import as_int8
from hycompile.schema import bind, is_call, overload

ATTENTION = "aten.scaled_dot_product_attention"


def legalise(module: GraphModule) -> dict[str, int]:
    """Apply every rewrite of this file in place; returns the hits of those that hit, by name."""
    hits = {
        "attention_to_rank_four": attention_to_rank_four(module),
        "multiply_groups": multiply_groups(module),
        "as_int8": as_int8(module),
    }
    return {name: count for name, count in hits.items() if count}


def attention_refusal(node: Node) -> str | None:
    """Why an attention call cannot be brought to rank four; None when it can, or need not be."""
    # As text, because symbolic sizes have no hash.
    shapes = [
        [str(size) for size in argument.meta["val"].shape] for argument in node.args[:3] if isinstance(argument, Node)
    ]
    if len({len(shape) for shape in shapes}) == 1 and len({tuple(shape[:-3]) for shape in shapes}) == 1:
        return None
    listed = ", ".join(f"[{', '.join(shape)}]" for shape in shapes)
    return f"the batch sizes of query, key and value differ: {listed}"


def attention_to_rank_four(module: GraphModule) -> int:
    """attention(q, k, v) = unflatten(attention(flatten(q), flatten(k), flatten(v))).

    Given: scaled dot-product attention over [*batch, H, L, D] with any number of batch sizes, as mask-unit attention
    makes it ([B, H, units, L, D]). The exporter's translation takes rank four only.
    Result: the same call over [prod(batch), H, L, D], and the batch sizes restored behind it.

    Returns:
        The number of calls rewritten; one whose batch sizes differ is left alone (see :func:`attention_refusal`).
    """
    hits = 0
    for node in list(module.graph.nodes):
        if is_call(node, ATTENTION) and _rank(node) != 4 and attention_refusal(node) is None:
            _rewrite_attention(module, node)
            hits += 1
    if hits:
        module.graph.lint()
        module.recompile()
    return hits


def _rewrite_attention(module: GraphModule, node: Node) -> None:
    mode, graph = fake_mode(module.graph), module.graph

    def call(name: str, *args: Any, **kwargs: Any) -> Node:
        made = graph.call_function(overload(name), args, kwargs)
        made.meta["stack_trace"] = node.meta.get("stack_trace")
        infer(module, made, mode)
        return made

    def size(tensor: Node, axis: int) -> int | Node:
        length = tensor.meta["val"].shape[axis]
        return length if isinstance(length, int) else call("aten.sym_size.int", tensor, axis)

    def to_rank_four(tensor: Node) -> Node:
        rank = _rank(tensor)
        if rank > 4:
            return call("aten.flatten.using_ints", tensor, 0, rank - 4)
        for _ in range(4 - rank):
            tensor = call("aten.unsqueeze", tensor, 0)
        return tensor

    arguments = bind(node)
    query, rank = arguments["query"], _rank(arguments["query"])
    with graph.inserting_before(node):
        batch = [size(query, axis) for axis in range(max(rank - 3, 0))]
        mask = arguments["attn_mask"]
        if mask is not None and rank > 4 and _rank(mask) > 2:
            for _ in range(rank - _rank(mask)):
                mask = call("aten.unsqueeze", mask, 0)
            mask = to_rank_four(call("aten.expand", mask, [*batch, -1, -1, -1]))
        q, k, v = (to_rank_four(arguments[name]) for name in ("query", "key", "value"))
        rest = {name: arguments[name] for name in ("dropout_p", "is_causal")}
        keywords = {name: arguments[name] for name in ("scale", "enable_gqa")}
        result = call(ATTENTION, q, k, v, mask, *rest.values(), **keywords)
        if rank > 4:
            result = call("aten.unflatten.int", result, 0, batch)
        for _ in range(4 - rank):
            result = call("aten.squeeze.dim", result, 0)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _rank(node: Node) -> int:
    return len(node.meta["val"].shape)
