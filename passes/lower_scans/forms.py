"""Which form an operator gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.fx import Node

from hycompile.recurrence import cache, chunked, step
from hycompile.rewrite import Refused, require
from hycompile.schema import bind

FORMS = ("auto", "chunked", "step", "operator")
CACHES = ("where", "index_put", "index_copy")
OPERATORS = {"linear_recurrence": "query", "selective_scan": "x", "causal_conv": "x", "cache_write": "new"}
"""Every operator with the argument that holds its tokens."""
_SIZED = ("linear_recurrence", "selective_scan")
_BY_INDEX = {"index_put": cache.write_by_put, "index_copy": cache.write_by_copy}


@dataclass(frozen=True)
class Wishes:
    """The options of the pass."""

    form: str
    chunk: int | None
    block: int | None
    cache: str


@dataclass(frozen=True)
class Form:
    """A function of an operator's arguments, and options of its own."""

    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def choose(node: Node, operator: str, wishes: Wishes) -> Form | None:
    """The form of one call; None where the operator stays.

    Raises:
        Refused: the wished form does not exist for this call.
    """
    arguments = bind(node)
    if wishes.form == "operator" and _in_onnx(operator, arguments):
        return None
    value: Tensor = arguments[OPERATORS[operator]].meta["val"]
    tokens: Any = value.shape[2 if operator == "cache_write" else 1]
    if not isinstance(tokens, int):
        raise Refused(f"the number of tokens is dynamic ({tokens}), and chunks need it: capture one method a length")
    require(wishes.form != "step" or tokens == 1, "the form step takes 1 token, found {}", tokens)
    if operator == "cache_write" and wishes.cache in _BY_INDEX and _all_fit(arguments, tokens):
        return Form(_BY_INDEX[wishes.cache])
    if tokens == 1 and wishes.form != "chunked":
        return Form(getattr(step, operator))
    sizes = {"chunk": wishes.chunk, "block": wishes.block} if operator in _SIZED else {}
    return Form(getattr(chunked, operator), sizes)


def _in_onnx(operator: str, arguments: dict[str, Any]) -> bool:
    """``CausalConvWithState`` has no count: its state is always that after the last token."""
    return operator == "linear_recurrence" or (operator == "causal_conv" and arguments["count"] is None)


def _all_fit(arguments: dict[str, Any], tokens: int) -> bool:
    return arguments["count"] is None and tokens <= arguments["cache"].meta["val"].shape[2]
