"""Operators that rearrange all elements: reshape, transpose, concat, split, pad, block layouts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter import padding
from hycompile.backends.coreml.interpreter.registry import ints, operator


@operator("reshape", moves=True)
def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """A 0 in ``shape`` takes the size of the dimension of x it aligns with from the right (1 beyond), -1 the rest."""
    wanted = ints(shape)
    offset = x.dim() - len(wanted)
    sizes = [(x.shape[i + offset] if i + offset >= 0 else 1) if size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(sizes)


@operator("reshape_like", moves=True)
def reshape_like(
    x: Tensor,
    ref_tensors: Sequence[Tensor],
    begins: Sequence[Tensor],
    ends: Sequence[Tensor],
    end_masks: Sequence[Tensor],
) -> Tensor:
    """x in the shape glued from slices of the reference tensors' shapes."""
    sizes: list[int] = []
    for reference, begin, end, to_end in zip(ref_tensors, ints(begins), ints(ends), end_masks, strict=True):
        sizes += list(reference.shape[begin:] if bool(to_end) else reference.shape[begin:end])
    return x.reshape(sizes)


@operator("shape", moves=True)
def shape(x: Tensor) -> Tensor:
    """The sizes of x as a vector."""
    return torch.tensor(x.shape, dtype=torch.int32)


@operator("expand_dims", moves=True)
def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """Size-1 dimensions inserted at ``axes`` of the result."""
    rank = x.dim() + axes.numel()
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


@operator("squeeze", moves=True)
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without the size-1 dimensions among ``axes`` (all, if left out)."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, tuple(ints(axes)))


@operator("flatten2d", moves=True)
def flatten2d(x: Tensor, axis: Tensor) -> Tensor:
    """[product of x.shape[:axis], product of x.shape[axis:]]."""
    return x.reshape(x.shape[: int(axis)].numel(), -1)


@operator("transpose", moves=True)
def transpose(x: Tensor, perm: Tensor) -> Tensor:
    """Dimension ``i`` of the result is dimension ``perm[i]`` of x."""
    return x.permute(ints(perm))


@operator("concat", moves=True)
def concat(values: Sequence[Tensor], axis: Tensor, interleave: Tensor) -> Tensor:
    """One after another along ``axis``, or element by element in turn if ``interleave``; scalars make a vector."""
    dim = int(axis)
    parts = [value.reshape(1) if value.dim() == 0 else value for value in values]
    if not bool(interleave):
        return torch.cat(parts, dim)
    dim %= parts[0].dim()
    return torch.stack(parts, dim + 1).flatten(dim, dim + 1)


@operator("stack", moves=True)
def stack(values: Sequence[Tensor], axis: Tensor) -> Tensor:
    """Equal shapes stacked along a new dimension ``axis``."""
    return torch.stack(list(values), int(axis))


@operator("split", moves=True)
def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Into ``split_sizes``, or into ``num_splits`` equal parts, along ``axis``."""
    if split_sizes is not None:
        return torch.split(x, ints(split_sizes), int(axis))
    assert num_splits is not None
    return torch.split(x, x.shape[int(axis)] // int(num_splits), int(axis))


@operator("tile", moves=True)
def tile(x: Tensor, reps: Tensor) -> Tensor:
    """``reps[i]`` copies of x along dimension i."""
    return x.repeat(ints(reps))


@operator("reverse", moves=True)
def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Elements in reverse order along ``axes`` (all, if left out)."""
    return x.flip(list(range(x.dim())) if axes is None else ints(axes))


@operator("pad", moves=True)
def pad(x: Tensor, pad: Tensor, mode: str, constant_val: Tensor) -> Tensor:
    """The last N dimensions extended by ``pad[2i], pad[2i+1]`` elements: constant, reflected or replicated."""
    amounts = ints(pad)
    pads = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    if mode == "constant":
        return padding.apply(x, pads, constant_val.item())
    for axis, (before, after) in enumerate(pads, start=x.dim() - len(pads)):
        if before or after:
            x = _extend(x, axis, before, after, mode)
    return x


def _extend(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """One dimension by index, which reflects and replicates in any rank and dtype."""
    last = x.shape[axis] - 1
    positions = torch.arange(-before, last + after + 1)
    if mode == "reflect":
        positions = last - (last - positions.abs()).abs()
    return x.index_select(axis, positions.clamp(0, last))


@operator("pixel_shuffle", moves=True)
def pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    """[N, C f^2, H, W] to [N, C, H f, W f], the block index in the low part of the channel."""
    return F.pixel_shuffle(x, int(upscale_factor))


@operator("pixel_unshuffle", moves=True)
def pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    """The inverse of pixel_shuffle."""
    return F.pixel_unshuffle(x, int(downscale_factor))


@operator("depth_to_space", moves=True)
def depth_to_space(x: Tensor, block_size: Tensor) -> Tensor:
    """[N, C b^2, H, W] to [N, C, H b, W b], the block index in the high part of the channel (TensorFlow's order)."""
    n, c, h, w = x.shape
    b = int(block_size)
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


@operator("space_to_depth", moves=True)
def space_to_depth(x: Tensor, block_size: Tensor) -> Tensor:
    """The inverse of depth_to_space."""
    n, c, h, w = x.shape
    b = int(block_size)
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@operator("space_to_batch", moves=True)
def space_to_batch(x: Tensor, block_shape: Tensor, paddings: Tensor) -> Tensor:
    """[N, C, H, W], padded, to [N b_h b_w, C, H / b_h, W / b_w], the block index in the high part of the batch."""
    (bh, bw), pads = ints(block_shape), ints(paddings)
    padded = padding.apply(x, [(pads[0], pads[1]), (pads[2], pads[3])])
    n, c, h, w = padded.shape
    blocks = padded.reshape(n, c, h // bh, bh, w // bw, bw).permute(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * bh * bw, c, h // bh, w // bw)


@operator("batch_to_space", moves=True)
def batch_to_space(x: Tensor, block_shape: Tensor, crops: Tensor) -> Tensor:
    """The inverse of space_to_batch, cropped."""
    (bh, bw), cut = ints(block_shape), ints(crops)
    n, c, h, w = x.shape
    image = (
        x.reshape(bh, bw, n // (bh * bw), c, h, w).permute(2, 3, 4, 0, 5, 1).reshape(n // (bh * bw), c, h * bh, w * bw)
    )
    return image[:, :, cut[0] : h * bh - cut[1], cut[2] : w * bw - cut[3]]
