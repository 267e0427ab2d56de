"""Executes emitted linalg MLIR with torch-mlir's own LLVM, so that tests compare numbers and not only text."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TO_LLVM = ",".join(
    (
        "func.func(llvm-request-c-wrappers)",
        "one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map}",
        "buffer-results-to-out-params{modify-public-functions=true}",
        "func.func(convert-linalg-to-loops)",
        "expand-strided-metadata",
        "lower-affine",
        "convert-scf-to-cf",
        "func.func(arith-expand)",
        "func.func(convert-math-to-llvm)",
        "convert-math-to-libm",
        "finalize-memref-to-llvm",
        "convert-func-to-llvm",
        "convert-cf-to-llvm",
        "convert-index-to-llvm",
        "convert-arith-to-llvm",
        "reconcile-unrealized-casts",
    )
)


def run_linalg(text: str, function: str, inputs: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Compile ``text`` and call ``function``; ``like`` gives the shapes and types of its results."""
    from torch_mlir.dialects import torch as dialect
    from torch_mlir.execution_engine import ExecutionEngine
    from torch_mlir.runtime import get_ranked_memref_descriptor

    # MLIR's classes come from compiled modules that no type checker sees into.
    ir: Any = importlib.import_module("torch_mlir.ir")
    passmanager: Any = importlib.import_module("torch_mlir.passmanager")

    context = ir.Context()
    dialect.register_dialect(context)
    module = ir.Module.parse(text, context)
    passmanager.PassManager.parse(f"builtin.module({_TO_LLVM})", context).run(module.operation)
    engine = ExecutionEngine(module)
    callback = _COPY(_copy)
    engine.raw_register_runtime("memrefCopy", ctypes.cast(callback, ctypes.c_void_p))
    arguments = [np.ascontiguousarray(tensor.detach().numpy()) for tensor in inputs]
    results = [np.zeros(tuple(tensor.shape), tensor.numpy().dtype) for tensor in like]
    descriptors = [get_ranked_memref_descriptor(array) for array in [*arguments, *results]]
    engine.invoke(function, *(ctypes.pointer(ctypes.pointer(descriptor)) for descriptor in descriptors))
    return [torch.from_numpy(array) for array in results]


class _Unranked(ctypes.Structure):
    """MLIR's unranked memref: rank, and a descriptor of allocated, aligned, offset, sizes, strides."""

    _fields_ = (("rank", ctypes.c_int64), ("descriptor", ctypes.POINTER(ctypes.c_int64)))


_COPY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.POINTER(_Unranked), ctypes.POINTER(_Unranked))


def _copy(bytes_each: int, source: Any, target: Any) -> None:
    """The one runtime function the lowering needs: copy between strided buffers."""
    _view(target.contents, bytes_each)[...] = _view(source.contents, bytes_each)


def _view(memref: Any, bytes_each: int) -> Any:
    rank, fields = memref.rank, memref.descriptor
    shape = [fields[3 + axis] for axis in range(rank)]
    strides = [fields[3 + rank + axis] * bytes_each for axis in range(rank)]
    span = bytes_each + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    memory: Any = (ctypes.c_char * span).from_address(fields[1] + fields[2] * bytes_each)
    return np.ndarray(shape, f"V{bytes_each}", memory, 0, strides)
