"""Lowering without work whose result nobody reads: the file that comes out is the same, byte for byte.

Of the time stock ExecuTorch 1.5.1 takes for a vision hybrid, about a fifth copies the history of every node at every
pass, another fifth writes Python source for graphs that are only ever interpreted (:mod:`hycompile.lean` leaves out
both), and a part retraces the whole graph for passes about operators that it does not have. On graphs of thousands of
nodes most of it is grouping what the delegate takes (:mod:`hycompile.backends.executorch.quick_partitions`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from executorch.backends.xnnpack._passes import XNNPACKPassManager
from torch.export import ExportedProgram

from hycompile.backends.executorch.quick_partitions import quick_partitions
from hycompile.lean import compiled_when_called, short_histories

# XNNPACK's passes that only ever look for these operators: on a graph without them they retrace it to itself. The first
# two also export models of their own, as patterns of what no partition holds: nobody delegates index or expand_copy.
_LOOKS_FOR = {
    "ConvertToUpsampleBilinear2d": "index",
    "ConvertToSDPAPass": "expand_copy",
    "PropagateCustomMetaPass": "quantize",
    "InsertPadQDQPass": "quantize",
    "FuseBatchNormPass": "batch_norm",
    "DecomposeBatchNorm": "batch_norm",
    "DecomposeConcatenate": "cat",
    "PReLUReshapePass": "prelu",
}


@contextmanager
def lean() -> Generator[None]:
    """Inside, conversion and XNNPACK's preprocessing leave out what does not change their result."""
    with ExitStack() as stack:
        stack.enter_context(short_histories())
        stack.enter_context(compiled_when_called())
        stack.enter_context(quick_partitions())
        stack.enter_context(patch.object(XNNPACKPassManager, "transform", _transform_where_needed))
        yield


_transform = XNNPACKPassManager.transform


def _transform_where_needed(manager: Any) -> ExportedProgram:
    names = {str(node.target) for node in manager.exported_program.graph.nodes if node.op == "call_function"}
    manager.passes = [
        step
        for step in manager.passes
        if step.__name__ not in _LOOKS_FOR or any(_LOOKS_FOR[step.__name__] in name for name in names)
    ]
    return _transform(manager)
