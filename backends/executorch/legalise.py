"""What ExecuTorch gets wrong, or would leave to portable kernels, is rewritten before it sees the graph."""

from __future__ import annotations

import torch
from executorch.backends.xnnpack.utils.xnnpack_constants import XNN_MAX_TENSOR_DIMS
from torch import Tensor
from torch.fx import GraphModule, Node

from hycompile.attributes import put_tensor, storage_key, tensor_at, used_tensors
from hycompile.backends.executorch.expand_gelu import expand_gelu
from hycompile.backends.executorch.forms import to_xnnpack_forms
from hycompile.backends.executorch.forms.clamps import merge_clamps
from hycompile.backends.executorch.group_norm import expand_group_norm
from hycompile.backends.executorch.partitioners import state_names
from hycompile.backends.executorch.quantised import keep_in_float, repeat_dequantise
from hycompile.backends.executorch.rows import to_four_bits
from hycompile.backends.executorch.whole_moves import move_whole_numbers
from hycompile.backends.executorch.widen import widen_reductions
from hycompile.builder import Builder
from hycompile.program import Program
from hycompile.quantisation.int8 import as_int8
from hycompile.ranks import reduce_ranks
from hycompile.rewrite import apply
from hycompile.schema import is_call, operator_name
from hycompile.target import ExecutorchOptions


def legalise(program: Program, options: ExecutorchOptions) -> None:
    """Rewrite, in place, what would otherwise compute another function, fall out of the delegate or not be lowered.

    Args:
        program: in the precision it will have on the device.
        options: the forms of operators follow what its first partitioner takes.
    """
    untie_weights(program)
    widen_reductions(program)
    if options.partitioners[:1] == ("xnnpack",):
        for method in program.methods.values():
            reduce_ranks(method.graph, XNN_MAX_TENSOR_DIMS)
        to_xnnpack_forms(program, options)
    expand_group_norm(program)
    expand_gelu(program)
    flatten_softmax(program)
    copy_before_reshapes(program)
    copy_views(program)
    for method in program.methods.values():
        as_int8(method.graph)
    apply(merge_clamps, program)
    keep_in_float(program)
    to_four_bits(program)
    move_whole_numbers(program)
    repeat_dequantise(program)


def copy_before_reshapes(program: Program) -> int:
    """Give what attention returns plain order where it is reshaped at once; returns how often.

    ``torch.export`` makes a view of such a reshape, since attention returns plain order when it is traced. What
    ExecuTorch decomposes attention to returns heads and tokens the other way round in memory, and the view fails.
    """
    copied = 0
    for method in program.methods.values():
        module = method.graph
        for node in list(module.graph.nodes):
            if is_call(node, "aten.reshape") and is_call(node.all_input_nodes[0], "aten.scaled_dot_product_attention"):
                build, attended = Builder(module, node, "attended"), node.all_input_nodes[0]
                copy = build.call("aten.clone", attended, memory_format=torch.contiguous_format)
                node.replace_input_with(attended, copy.node)
                copied += 1
        module.recompile()
    return copied


def copy_views(program: Program) -> int:
    """Give every constant that is a part of a larger tensor memory of its own; returns how many were.

    XNNPACK's serialiser writes such a weight from the start of the memory it lies in, wherever the part begins
    (``node_visitor.py``), so that the layer silently computes with another part. State is no constant, and stays.
    """
    state, copies = state_names(program), dict[object, Tensor]()
    for method in program.methods.values():
        for name, tensor in used_tensors(method.graph).items():
            if name not in state and tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size():
                key = storage_key(tensor)
                if key not in copies:
                    copies[key] = tensor.clone()
                put_tensor(method.graph, name, copies[key])
    return len(copies)


def untie_weights(program: Program) -> int:
    """Give every convolution, and every linear before a batch norm, weights of its own; returns how many were copied.

    XNNPACK changes these weights under names made from theirs. Two batch norms folded into one tied weight or bias
    overwrite each other (``fuse_batch_norm.py``), so that the first layer silently computes with the second's; a tied
    ``conv1d`` weight is reshaped for its first user only (``conv1d_unsqueeze_pass.py``). Equal data is stored once in
    the file, whatever its names, so the copies cost no space there.
    """
    state = state_names(program)
    return sum(_untie(method.graph, state) for method in program.methods.values())


def flatten_softmax(program: Program) -> int:
    """Compute every softmax over the last of four axes on three; returns how many.

    Between convolutions XNNPACK keeps four-dimensional tensors channels-last, and its softmax normalises over the axis
    that lies last in memory: behind a convolution (EfficientFormerV2's talking heads) that is the channels, and the
    result is wrong without an error. A reshape asks for plain order, and so gives softmax the axis it means.
    """
    return sum(_flatten_softmax(method.graph) for method in program.methods.values())


def _flatten_softmax(module: GraphModule) -> int:
    flattened = 0
    for node in list(module.graph.nodes):
        if not is_call(node, "aten.softmax.int") or len(node.meta["val"].shape) != 4 or node.args[1] not in (-1, 3):
            continue
        heads = node.meta["val"].shape[1]
        build = Builder(module, node, "softmax")
        # Sizes stay out of it where they are dynamic: the batch is whatever the heads leave.
        flat = build.call("aten.flatten.using_ints", node.args[0], 0, 1)
        result = build.call("aten.unflatten.int", build.call("aten.softmax.int", flat, -1), 0, [-1, heads])
        node.replace_all_uses_with(result.node)
        module.graph.erase_node(node)
        flattened += 1
    module.recompile()
    return flattened


def _untie(module: GraphModule, state: frozenset[str]) -> int:
    seen: set[object] = set()
    copied = 0
    for user in [node for node in module.graph.nodes if _changes_its_weights(node)]:
        for value in [node for node in user.all_input_nodes if node.op == "get_attr" and node.target not in state]:
            key = storage_key(tensor_at(module, str(value.target)))
            if key in seen:
                _own(module, user, value)
                copied += 1
            seen.add(key)
    module.recompile()
    return copied


def _changes_its_weights(node: Node) -> bool:
    if node.op != "call_function":
        return False
    folded = any(is_call(user, "aten.batch_norm") for user in node.users)
    return operator_name(node).startswith("aten.conv") or (folded and is_call(node, "aten.linear"))


def _own(module: GraphModule, user: Node, value: Node) -> None:
    name = f"{value.target}_of_{user.name}"
    put_tensor(module, name, tensor_at(module, str(value.target)).clone())
    with module.graph.inserting_before(user):
        own = module.graph.get_attr(name)
    own.meta["val"] = value.meta["val"]
    user.replace_input_with(value, own)
