"""Convolution and transposed convolution of one, two or three spatial dimensions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter import padding
from hycompile.backends.coreml.interpreter.registry import channelwise, ints, operator

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """x [N, C, *D], weight [O, C / groups, *K], bias [O]."""
    stride, dilation = ints(strides), ints(dilations)
    kernel = padding.extent(weight.shape[2:], dilation)
    pads = padding.amounts(pad_type, x.shape[2:], kernel, stride, ints(pad))
    if all(before == after for before, after in pads):
        inner = [before for before, _ in pads]
    else:
        x, inner = padding.apply(x, pads), [0] * len(pads)
    return _CONV[len(pads)](x, weight, bias, stride, inner, dilation, int(groups))


@operator("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
    output_shape: Tensor | None = None,
) -> Tensor:
    """x [N, C, *D], weight [C, O / groups, *K]: the full result, cropped by the padding at both ends.

    ``output_shape`` overrides the size; positions beyond the full result hold the bias alone.
    """
    stride, dilation = ints(strides), ints(dilations)
    kernel = padding.extent(weight.shape[2:], dilation)
    full = _TRANSPOSED[len(stride)](x, weight, None, stride, 0, 0, int(groups), dilation)
    sizes = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    pads = padding.amounts(pad_type, sizes, kernel, stride, ints(pad))
    if output_shape is not None:
        wanted = ints(output_shape)[2:]
    else:
        wanted = [size - before - after for size, (before, after) in zip(full.shape[2:], pads, strict=True)]
        wanted = sizes if pad_type == "same" else wanted
    for axis, ((before, _), size) in enumerate(zip(pads, wanted, strict=True), start=2):
        full = full.narrow(axis, before, min(size, full.shape[axis] - before))
    short = [(0, size - have) for size, have in zip(wanted, full.shape[2:], strict=True)]
    full = padding.apply(full, short)
    return full if bias is None else full + channelwise(bias, full)
