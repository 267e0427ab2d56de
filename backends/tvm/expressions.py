"""What every translation asks of Relax expressions, and the arguments of a node as such."""

from __future__ import annotations

from typing import Any

from torch.fx import Node
from tvm import relax

from hycompile.schema import bind

# TVM annotates shapes as one-element tuples.
ops: Any = relax.op


def values(node: Node, importer: Any) -> dict[str, Any]:
    """Arguments by schema name, with Relax expressions in place of nodes."""
    return {name: importer.env[value] if isinstance(value, Node) else value for name, value in bind(node).items()}


def dtype_of(value: Any) -> str:
    return str(value.ty.dtype)


def rank_of(value: Any) -> int:
    return int(value.ty.ndim)


def cast(value: Any, dtype: str) -> Any:
    return value if dtype_of(value) == dtype else ops.astype(value, dtype)
