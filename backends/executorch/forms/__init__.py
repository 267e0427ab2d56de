"""The forms of operators that XNNPACK's delegate takes whole, so that nothing is left to portable kernels."""

from __future__ import annotations

from hycompile.backends.executorch.forms.attention import expand_attention
from hycompile.backends.executorch.forms.averages import (
    average_whole_image,
    drop_ceil_mode,
    expand_average_pool1d,
    expand_mean,
    expand_sum,
    pad_before_pool,
)
from hycompile.backends.executorch.forms.broadcasts import broadcast_operand
from hycompile.backends.executorch.forms.choices import multiply_by_choice
from hycompile.backends.executorch.forms.group_norm import expand_image_norm
from hycompile.backends.executorch.forms.groups import split_groups
from hycompile.backends.executorch.forms.hard_sigmoid import expand_hardsigmoid
from hycompile.backends.executorch.forms.kernel_rows import split_kernel_rows
from hycompile.backends.executorch.forms.layer_norm import expand_channel_norm, expand_layer_norm
from hycompile.backends.executorch.forms.maxima import expand_amax
from hycompile.backends.executorch.forms.multipliers import split_depth_multiplier
from hycompile.backends.executorch.forms.pieces import slice_pieces
from hycompile.backends.executorch.forms.products import expand_matmul
from hycompile.backends.executorch.forms.scalars import float_scalars
from hycompile.backends.executorch.forms.slots import write_one_slot
from hycompile.backends.executorch.forms.softplus import expand_softplus
from hycompile.backends.executorch.forms.steps import slice_in_groups
from hycompile.backends.executorch.forms.strided_rows import split_strided_rows
from hycompile.backends.executorch.forms.vector_norm import expand_vector_norm
from hycompile.backends.executorch.forms.wide_kernels import split_wide_depthwise
from hycompile.program import Program
from hycompile.rewrite import Rule, apply
from hycompile.target import ExecutorchOptions

# The channel norm comes before the layer norm that is a part of it.
RULES: tuple[Rule, ...] = (
    split_depth_multiplier,
    split_wide_depthwise,
    expand_attention,
    expand_matmul,
    expand_channel_norm,
    expand_layer_norm,
    expand_image_norm,
    drop_ceil_mode,
    pad_before_pool,
    expand_average_pool1d,
    average_whole_image,
    expand_mean,
    expand_sum,
    expand_vector_norm,
    expand_amax,
    expand_hardsigmoid,
    expand_softplus,
    slice_in_groups,
    write_one_slot,
    multiply_by_choice,
    broadcast_operand,
)

# Where matrix products are that much faster than convolutions. Groups come first: each becomes a dense convolution.
ROWS: tuple[Rule, ...] = (split_groups, split_kernel_rows, split_strided_rows)


def to_xnnpack_forms(program: Program, options: ExecutorchOptions) -> None:
    """Rewrite, in place, everything that has a form XNNPACK takes, and what has a faster one on the device."""
    slice_pieces(program)
    float_scalars(program)
    for rule in (*RULES, *ROWS) if options.convolutions == "rows" else RULES:
        apply(rule, program)
