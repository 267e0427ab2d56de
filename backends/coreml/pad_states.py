"""State whose last dimension is a multiple of what the Neural Engine takes: wider buffers, of which a part is used."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import is_state, put_tensor, tensor_at
from hycompile.builder import Builder, Value
from hycompile.program import Program
from hycompile.schema import is_call

LANES = 32
REASON = f"the Neural Engine fails on state whose width is no multiple of {LANES}"
"""apple/coremltools issue 2631."""


def pad_states(program: Program) -> dict[str, int]:
    """Widen every state buffer to a multiple of 32, in place; returns the former width of each that was widened.

    Readers see the first columns, and what is written has zeros behind it: outputs are the same, and the columns added
    stay zero.
    """
    widths: dict[str, int] = {}
    wide: dict[str, Tensor] = {}
    for method in program.methods.values():
        module = method.graph
        for node in [node for node in module.graph.find_nodes(op="get_attr") if is_state(node)]:
            name = str(node.target)
            width = node.meta["val"].shape[-1] if node.meta["val"].dim() else LANES
            if width % LANES == 0:
                continue
            if name not in wide:
                value = tensor_at(module, name)
                wide[name] = value.new_zeros(*value.shape[:-1], width + -width % LANES)
            widths[name] = width
            _widen(module, node, width)
        for name in widths.keys() & {str(node.target) for node in module.graph.find_nodes(op="get_attr")}:
            put_tensor(module, name, wide[name])
        module.graph.lint()
        module.recompile()
    return widths


def _widen(module: GraphModule, node: Node, width: int) -> None:
    """Make one reading node that of the wider buffer."""
    missing = -width % LANES
    value: Tensor = node.meta["val"]
    writes = [user for user in node.users if is_call(user, "aten.copy_") and user.args[0] is node]
    readers = [user for user in node.users if user not in writes]
    node.meta["val"] = value.new_zeros(*value.shape[:-1], width + missing)
    if readers:
        part = Builder(module, node.next, "state").call("aten.slice.Tensor", Value(node), -1, 0, width)
        for reader in readers:
            reader.replace_input_with(node, part.node)
    for write in writes:
        written = write.args[1]
        assert isinstance(written, Node)
        # Right behind what is written: coremltools fails on updates that follow one another (see its optimize_state).
        early = Value(written) if written.op == "call_function" else None
        build = Builder(module, write, "state")
        padded = build.call("aten.constant_pad_nd", Value(written), [0, missing], after=early)
        write.args = (node, padded.node)
        write.meta["val"] = node.meta["val"]
