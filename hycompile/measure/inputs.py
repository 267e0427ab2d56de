"""Inputs for a measurement, made from an artifact's signature alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hycompile.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.artifact import MethodSpec, TensorSpec


def random_inputs(spec: MethodSpec, sizes: Mapping[str, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Standard normal floats and zeros of any other type (zero is a valid index everywhere), one tensor per input.

    Args:
        spec: the method's signature.
        sizes: value of each dynamic size, by the name it has in the signature (``{"s0": 224}``).

    Raises:
        ArtifactError: a dynamic size has no value.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors: list[Tensor] = []
    for item in spec.inputs:
        shape = [_size(item, size, sizes) for size in item.shape]
        dtype: torch.dtype = getattr(torch, item.dtype)
        if dtype.is_floating_point:
            tensors.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            tensors.append(torch.zeros(shape, dtype=dtype))
    return tuple(tensors)


def _size(item: TensorSpec, size: int | str, sizes: Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    if size not in sizes:
        raise ArtifactError(
            f"input {item.name!r} {list(item.shape)}", f"size {size!r} is dynamic", f"give --size {size}=N"
        )
    return sizes[size]
