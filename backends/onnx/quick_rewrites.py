"""onnxscript's rewrites in time linear in the number of nodes; what they do to a model stays the same."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

# Its pattern has no steps: a Slice that gives them, as torch's aten.slice does, cannot match.
_PATTERN_INPUTS = 4


@contextmanager
def quick_rewrites() -> Generator[None]:
    """Let onnxscript look for the second of two slices only where there is a first.

    Its rule that makes a Split of two slices has two results, and for such a rule it walks the whole graph at every
    node, whatever the node is: minutes for a graph of some thousand nodes. The first slice must be the node itself, so
    that all other nodes can be passed over without a look at the graph.
    """
    from onnxscript.rewriter.rules.common import slice_split_rule

    complete = type(slice_split_rule).try_rewrite

    def quick(model: Any, graph: Any, node: Any, **options: Any) -> Any:
        first = node.op_type == "Slice" and len(node.inputs) <= _PATTERN_INPUTS
        return complete(slice_split_rule, model, graph, node, **options) if first else None

    vars(slice_split_rule)["try_rewrite"] = quick
    try:
        yield
    finally:
        vars(slice_split_rule).pop("try_rewrite", None)
