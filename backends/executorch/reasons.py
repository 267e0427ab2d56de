"""Why an operator stays outside a delegate: in the partitioner's own words where it has any."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import Node

from hycompile.backends.executorch.operators import operator_name

# What a model calls, and what ExecuTorch makes of it before XNNPACK's partitioner sees it.
_DECOMPOSED = {
    "scaled_dot_product_attention": "XNNPACK's partitioner has no entry for scaled_dot_product_attention, "
    "which decomposes to a safe softmax, nor for its {}",
    "unbind": "unbind decomposes to slices and {}, for which XNNPACK's partitioner has no entry",
}
_WHY_LOGGER = "executorch.backends.xnnpack.partition.config"
_META = "hycompile_why_not"


class _Whys(logging.Handler):
    """XNNPACK's configurations log a ``WhyNoPartition`` per refusal: note its reason on the node itself."""

    def emit(self, record: logging.LogRecord) -> None:
        why: Any = record.msg
        node = getattr(why, "node", None)
        if isinstance(node, Node):
            node.meta[_META] = str(why.reason)


@contextmanager
def why_not() -> Generator[None]:
    """While a partitioner runs inside, nodes it refuses remember why (see :func:`reason`)."""
    logger, handler = logging.getLogger(_WHY_LOGGER), _Whys(logging.DEBUG)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def reason(node: Node, partitioners: tuple[str, ...]) -> str:
    """Why ``node`` runs on a portable kernel, as one clause."""
    noted = node.meta.get(_META)
    if noted == "invalid dtype":
        dtypes = sorted({str(value.dtype).removeprefix("torch.") for value in _tensors(node)} - {"float32", "float16"})
        return f"XNNPACK computes in float32 and float16, found {', '.join(dtypes) or 'a symbolic size'}"
    if noted:
        return str(noted)
    if "xnnpack" in partitioners:
        template = _DECOMPOSED.get(origin(node), "XNNPACK's partitioner has no entry for {}")
        return template.format(operator_name(node))
    return f"not taken by the partitioners {', '.join(partitioners) or '(none)'}"


def origin(node: Node) -> str:
    """The function the model called that ``node`` is a part of (``unbind``); empty if unknown."""
    name, *_ = node.meta.get("torch_fn") or ("",)
    return re.sub(r"_\d+$", "", str(name)).removesuffix(".default").removesuffix(".int")


def _tensors(node: Node) -> list[torch.Tensor]:
    values = [other.meta.get("val") for other in (node, *node.all_input_nodes)]
    return [value for value in values if isinstance(value, torch.Tensor)]
