"""From opset 18, the oldest the exporter writes, to opset 17, which TensorRT 8 still needs.

Opset 18 moved the axes of reductions from an attribute to an input; TensorRT 8 reads such a reduction as one over every
axis. ONNX's own converter has no way down for ``Split`` and leaves attributes behind that opset 17 does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hycompile.errors import Unsupported

if TYPE_CHECKING:
    import onnx_ir as ir

OLDEST, NATIVE = 17, 18


def lower_opset(model: ir.Model) -> None:
    """Rewrite an opset 18 model to opset 17, in place.

    Raises:
        Unsupported: a node uses what opset 17 cannot say.
    """
    from onnx import defs
    from onnx_ir import traversal

    for node in list(traversal.RecursiveGraphIterator(model.graph)):
        if node.domain:
            continue
        if not defs.has(node.op_type, OLDEST, ""):
            raise _refusal(node, f"opset {OLDEST} has no such operator")
        if (
            defs.get_schema(node.op_type, OLDEST, "").since_version
            == defs.get_schema(node.op_type, NATIVE, "").since_version
        ):
            continue
        if node.op_type not in _RULES:
            raise _refusal(node, f"its opset {NATIVE} form has no translation to opset {OLDEST}")
        _RULES[node.op_type](node)
    model.opset_imports[""] = OLDEST
    model.ir_version = 8


def _reduction(node: ir.Node) -> None:
    """``axes`` from an input to an attribute; without axes both opsets reduce over everything."""
    import onnx_ir as ir

    keeps_input = node.attributes.pop("noop_with_empty_axes", None)
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None:
        if keeps_input is not None and keeps_input.as_int():
            raise _refusal(node, "it reduces over no axis")
        return
    constant = axes.const_value
    if constant is None:
        raise _refusal(node, "its axes are computed at run time")
    node.resize_inputs(1)
    node.attributes["axes"] = ir.AttrInt64s("axes", constant.numpy().tolist())


def _split(node: ir.Node) -> None:
    """``num_outputs`` goes; opset 17 counts the outputs itself, and divides evenly."""
    count = node.attributes.pop("num_outputs", None)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if count is None:
        return
    length = shape[axis] if shape is not None else None
    if not isinstance(length, int) or length % count.as_int():
        raise _refusal(node, f"size {length} does not split into {count.as_int()} equal parts")


def _resize(node: ir.Node) -> None:
    antialias = node.attributes.pop("antialias", None)
    policy = node.attributes.pop("keep_aspect_ratio_policy", None)
    if "axes" in node.attributes or (antialias is not None and antialias.as_int()):
        raise _refusal(node, "it uses axes or antialiasing")
    if policy is not None and policy.as_string() != "stretch":
        raise _refusal(node, f"it uses keep_aspect_ratio_policy {policy.as_string()!r}")


def _pad(node: ir.Node) -> None:
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        raise _refusal(node, "it names the axes to pad")


def _scatter(node: ir.Node) -> None:
    reduction = node.attributes["reduction"].as_string() if "reduction" in node.attributes else "none"
    if reduction not in ("none", "add", "mul"):
        raise _refusal(node, f"it reduces by {reduction!r}")


def _unchanged(node: ir.Node) -> None:
    """Only the allowed types grew."""


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_RULES: dict[str, Callable[[ir.Node], None]] = {
    **{f"Reduce{name}": _reduction for name in _REDUCTIONS},
    "Split": _split,
    "Resize": _resize,
    "Pad": _pad,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "OptionalGetElement": _unchanged,
    "OptionalHasElement": _unchanged,
}


def _refusal(node: ir.Node, reason: str) -> Unsupported:
    return Unsupported(
        f"{node.op_type} node {node.name!r} at opset {OLDEST}", reason, f"ask for opset {NATIVE} in the device file"
    )
