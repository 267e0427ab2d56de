"""Linears with weights in groups as ONNX Runtime multiplies them; ranges of rows, which ONNX does not find."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import tensor_at
from hycompile.builder import Builder, Value
from hycompile.quantisation.nodes import CHOOSE_ROWS, DEQUANTISE_GROUPS
from hycompile.rewrite import erase_dead
from hycompile.schema import bind, is_call

_FLOAT = 1


def rows_refusal(node: Node) -> str | None:
    """Why a node that finds a range at run time has no translation; None for any other node."""
    if not is_call(node, CHOOSE_ROWS):
        return None
    return "ONNX finds one range for all rows at run time (DynamicQuantizeLinear); quantise{activation_bits=0} has none"


def multiply_groups(module: GraphModule) -> int:
    """Make a linear of a weight in groups one ``com.microsoft::MatMulNBits``, in place; returns how many.

    It multiplies floats by ``scale (q - 2^(bits - 1))``, with q in 4 or 8 bits and a scale for each block of a row, so
    that every symmetric grid of as many bits fits. Files with it run in ONNX Runtime only.
    """
    found = 0
    for node in list(module.graph.nodes):
        if is_call(node, "aten.linear") and is_call(bind(node)["weight"], DEQUANTISE_GROUPS):
            _multiply(module, node)
            found += 1
    if found:
        module.graph.lint()
        module.recompile()
    return found


def _multiply(module: GraphModule, node: Node) -> None:
    # Importing it registers the operator.
    import torch.onnx.ops  # pyright: ignore[reportUnusedImport]

    given, build = bind(node), Builder(module, node, "blocks")
    weight = bind(given["weight"])
    whole, scale = (tensor_at(module, str(weight[name].target)).detach() for name in ("input", "scales"))
    bits, group = 4 if weight["quant_max"] < 8 else 8, weight["group_size"]
    outputs, inputs = whole.shape
    constants = [build.constant(pack(whole, bits, group)), build.constant(scale.float())]
    attributes = {"K": inputs, "N": outputs, "bits": bits, "block_size": group}
    operator: Any = torch.ops.onnx_symbolic._symbolic.default
    result = build.call(
        operator,
        [Value(given["input"]), *constants],
        "MatMulNBits",
        _FLOAT,
        shape=[*(_size(build, given["input"], axis) for axis in range(len(_shape(given["input"])) - 1)), outputs],
        attr_keys=list(attributes),
        attr_types=["i"] * len(attributes),
        attr_pos=[[place, place + 1] for place in range(len(attributes))],
        attr_ints=list(attributes.values()),
        attr_floats=[],
        attr_strs=[],
        metadata_props_keys=[],
        metadata_props_values=[],
        domain="com.microsoft",
        version=1,
    )
    if given["bias"] is not None:
        result = build.call("aten.add.Tensor", result, Value(given["bias"]))
    node.replace_all_uses_with(result.node)
    module.graph.erase_node(node)
    erase_dead(module, given["weight"])


def pack(whole: Tensor, bits: int, group: int) -> Tensor:
    """Numbers ``[out, in]`` as ``uint8 [out, in / group, group * bits / 8]``, of two the first in the lower half."""
    blocks = (whole.int() + 2 ** (bits - 1)).to(torch.uint8).unflatten(1, (-1, group))
    return blocks if bits == 8 else blocks[..., ::2] | (blocks[..., 1::2] << 4)


def _shape(node: Node) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


def _size(build: Builder, node: Node, axis: int) -> Any:
    size = _shape(node)[axis]
    return size if isinstance(size, int) else build.call("aten.sym_size.int", Value(node), axis)
