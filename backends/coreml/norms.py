"""A pass for coremltools' own pipeline: layer norm over the axis that a permute before it would have put last."""

from __future__ import annotations

from typing import Any

import numpy as np
from coremltools.converters.mil.mil import Builder
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.helper import block_context_manager
from coremltools.converters.mil.mil.passes.pass_registry import register_pass

NAME = "hycompile::take_in_transposes"


@register_pass(namespace="hycompile", name="take_in_transposes")
class TakeInTransposes(AbstractGraphPass):
    """transpose(layer_norm(transpose(x))) = layer_norm(x) over another axis, where the transposes undo each other.

    torch's layer norm is over the last axes only; MIL's over any, and channels-first is how the Neural Engine has it.
    """

    def apply(self, prog: Any) -> None:
        for function in prog.functions.values():
            _take_in(function)


@block_context_manager
def _take_in(block: Any) -> None:
    for norm in [operation for operation in block.operations if operation.op_type == "layer_norm"]:
        before, readers = norm.x.op, list(norm.outputs[0].child_ops)
        if before is None or before.op_type != "transpose" or not readers or norm.outputs[0] in block.outputs:
            continue
        order = [int(dim) % norm.x.rank for dim in before.perm.val]
        inverse = [int(dim) for dim in np.argsort(order)]
        if len(norm.axes.val) != 1 or not all(_is_transpose(reader, inverse) for reader in readers):
            continue
        axis = order[int(norm.axes.val[0])]
        result = Builder.layer_norm(
            x=before.x, axes=[axis], gamma=norm.gamma, beta=norm.beta, epsilon=norm.epsilon, before_op=norm
        )
        for reader in readers:
            block.replace_uses_of_var_after_op(anchor_op=reader, old_var=reader.outputs[0], new_var=result)
        block.remove_ops([*readers, norm])


def _is_transpose(operation: Any, order: list[int]) -> bool:
    found = operation.op_type == "transpose"
    return found and [int(dim) % len(order) for dim in operation.perm.val] == order
