"""The text form of a graph: what ``explain`` shows, golden tests compare and digests cover."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from hycompile.attributes import is_state, state_writes
from hycompile.schema import bind, operator_name, parameters

_SHORT = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "bool",
}


def value_type(value: Any) -> str:
    """``f32[1, 3, 224, 224]`` for a tensor, a bracketed list for several, the Python type's name otherwise."""
    if isinstance(value, torch.Tensor):
        short = _SHORT.get(value.dtype, str(value.dtype).removeprefix("torch."))
        return f"{short}[{', '.join(str(size) for size in value.shape)}]"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(value_type(item) for item in value)})"
    return type(value).__name__


def _argument(value: Any) -> str:
    if isinstance(value, Node):
        return f"@{value.target}" if value.op == "get_attr" else f"%{value.name}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_argument(item) for item in value)}]"
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else repr(value)


def _line(node: Node) -> str:
    if not isinstance(node.target, OpOverload):
        shown = [_argument(value) for value in node.args]
    else:
        defaults = {a.name: a.default_value for a in parameters(node.target) if a.has_default_value()}
        bound = {name: value for name, value in bind(node).items() if name not in defaults or value != defaults[name]}
        shown = [
            _argument(value) if isinstance(value, Node) else f"{name}={_argument(value)}"
            for name, value in bound.items()
        ]
    kind = value_type(node.meta["val"]) if "val" in node.meta else "?"
    return f"%{node.name} = {operator_name(node)}({', '.join(shown)}) : {kind}"


def graph_text(module: GraphModule) -> str:
    """One line per input, constant, state buffer, operator and output, in graph order."""
    written = state_writes(module)
    lines: list[str] = []
    for node in module.graph.nodes:
        kind = value_type(node.meta.get("val"))
        if node.op == "placeholder":
            lines.append(f"input %{node.name} : {kind}")
        elif node.op == "get_attr" and node.users:
            lines.append(f"{'state' if is_state(node) else 'const'} @{node.target} : {kind}")
        elif node in written.values():
            lines.append(f"write {_argument(node.args[0])} <- {_argument(node.args[1])}")
        elif node.op == "call_function":
            lines.append(_line(node))
        elif node.op == "output":
            lines.append(f"return {_argument(node.args[0])}")
    return "\n".join(lines) + "\n"


def canonical_text(module: GraphModule) -> str:
    """:func:`graph_text` with values and sizes numbered in order and constants sorted: equal in every process."""
    lines = graph_text(module).splitlines()
    constants = sorted(line for line in lines if line.startswith(("const ", "state ")))
    text = "\n".join(constants + [line for line in lines if not line.startswith(("const ", "state "))])
    for pattern, letter in ((r"%\w+", "%"), (r"\b[su]\d+\b", "s")):
        numbers: dict[str, str] = {}
        text = re.sub(pattern, lambda found: numbers.setdefault(found.group(), f"{letter}{len(numbers)}"), text)  # noqa: B023
    return text + "\n"
