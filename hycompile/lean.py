"""Rewriting and exporting graphs without work whose result nobody reads: the graphs that come out are the same.

Every pass of torch's exporters, and every rewrite of ours, copies the history of each node and writes Python source for
a graph that is then interpreted, traced or rewritten again. On graphs of thousands of nodes that is most of the time.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch.fx import GraphModule, Node, traceback
from torch.fx.graph import _PyTreeCodeGen  # pyright: ignore[reportPrivateUsage] - what recompile itself asks for


@contextmanager
def short_histories() -> Generator[None]:
    """Inside, a node that is traced anew keeps one source of its history, not a copy of all of it."""
    with patch.object(traceback, "set_current_meta", _keep_first_source):
        yield


@contextmanager
def compiled_when_called() -> Generator[None]:
    """Inside, the source code of a graph is written when the graph is called, if it ever is.

    Graphs that outlive the context still work, for a call compiles them. Give those that others see to
    :func:`compile_now`: until then ``code`` and the names of the arguments of ``forward``, which ``torch.export`` calls
    inputs by, are not what they should be.
    """
    with patch.object(GraphModule, "recompile", _compile_when_called):
        yield


def compile_now(module: Any) -> None:
    """Write the source code of a graph built inside :func:`compiled_when_called`; nothing for other modules."""
    if type(module).forward is _compile_and_call:
        _compile(module)


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
