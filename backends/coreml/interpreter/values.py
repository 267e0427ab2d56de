"""MIL types and constants as torch dtypes and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hycompile.errors import Unsupported

# torch computes little in unsigned 16 and 32 bits: the next wider signed type holds the same values.
_DTYPES = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "bool": torch.bool,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
    "uint32": torch.int64,
    "int64": torch.int64,
}


def dtype_name(variable: Any) -> str:
    """MIL's name of a variable's element type (``fp16``, ``int32``, ``uint4``)."""
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(variable.dtype))


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype that holds a MIL element type.

    Raises:
        Unsupported: no tensor of that type exists at run time (sub-byte types live in compressed weights only).
    """
    if name.startswith(("uint", "int")) and name not in _DTYPES:
        return torch.uint8 if name.startswith("u") else torch.int8
    if name not in _DTYPES:
        raise Unsupported(f"MIL type {name!r}", "the interpreter has no tensor for it", "cast it inside the model")
    return _DTYPES[name]


def constant(variable: Any) -> Tensor | str:
    """A MIL constant as a tensor, or as the string it is. 16-bit floats are widened: all arithmetic is in 32 bits."""
    value = variable.val
    if isinstance(value, str | np.str_):
        return str(value)
    dtype = torch_dtype(dtype_name(variable))
    array = np.asarray(value)
    if array.dtype == np.uint16 or array.dtype == np.uint32:
        array = array.astype(np.int64)
    tensor = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=").base, copy=True, order="C"))
    return tensor.to(torch.float32 if dtype == torch.float16 else dtype)


def declared_shape(variable: Any) -> tuple[int | None, ...]:
    """A variable's declared sizes; None for a size only known at run time."""
    from coremltools.converters.mil.mil.types.symbolic import is_symbolic

    return tuple(None if is_symbolic(size) else int(size) for size in variable.shape)
