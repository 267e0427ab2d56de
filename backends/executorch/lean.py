"""Lowering without work whose result nobody reads: the file that comes out is the same, byte for byte.

Of the time stock ExecuTorch 1.5.1 takes for a vision hybrid, about a fifth copies the history of every node at every
pass, another fifth writes Python source for graphs that are only ever interpreted, and a part retraces the whole graph
for passes about operators that it does not have.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from executorch.backends.xnnpack._passes import XNNPACKPassManager
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node, traceback
from torch.fx.graph import _PyTreeCodeGen  # pyright: ignore[reportPrivateUsage] - what recompile itself asks for

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
        stack.enter_context(patch.object(traceback, "set_current_meta", _keep_first_source))
        stack.enter_context(patch.object(GraphModule, "recompile", _compile_when_called))
        stack.enter_context(patch.object(XNNPACKPassManager, "transform", _transform_where_needed))
        yield


@contextmanager
def _keep_first_source(node: Node, pass_name: str = "") -> Generator[None]:
    """Nodes keep the oldest source of their history, which debug handles are made from, not a copy of all of it."""
    if not (traceback.should_preserve_node_meta and node.meta):
        yield
        return
    saved = traceback.current_meta
    current = node.meta.copy()
    if "from_node" not in current:
        current["from_node"] = [traceback.NodeSource(node, pass_name, traceback.NodeSourceAction.CREATE)]
    traceback.current_meta = current
    try:
        yield
    finally:
        traceback.current_meta = saved


_compile = GraphModule.recompile


def _compile_when_called(module: Any) -> None:
    """As torch's own lazy graph modules do: source is generated when the module is first called, if it ever is."""
    if isinstance(module.graph._codegen, _PyTreeCodeGen):
        tree = module.graph._codegen.pytree_info
        module._in_spec, module._out_spec = tree.in_spec, tree.out_spec
    module._code = "# generated when the module is called"
    type(module).forward = _compile_and_call


def _compile_and_call(module: GraphModule, *args: Any, **kwargs: Any) -> Any:
    _compile(module)
    return module(*args, **kwargs)


_transform = XNNPACKPassManager.transform


def _transform_where_needed(manager: Any) -> ExportedProgram:
    names = {str(node.target) for node in manager.exported_program.graph.nodes if node.op == "call_function"}
    manager.passes = [
        step
        for step in manager.passes
        if step.__name__ not in _LOOKS_FOR or any(_LOOKS_FOR[step.__name__] in name for name in names)
    ]
    return _transform(manager)
