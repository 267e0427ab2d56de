"""What ONNX files hold, counted in the files."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path

import onnx

from hycompile.backends.onnx.signature import STATE


def stored(models: Iterable[Path]) -> dict[str, object]:
    """Facts: ``weight_bytes`` of all initializers, each file's own, and ``state_bytes`` of the state that is handed in.

    Methods are handed the same tensor for state of one name, so it counts once.
    """
    weights, state = 0, dict[str, int]()
    for path in models:
        graph = onnx.load(str(path), load_external_data=False).graph
        weights += sum(_bytes(tensor.data_type, tensor.dims) for tensor in graph.initializer)
        for value in graph.input:
            if value.name.startswith(STATE):
                tensor = value.type.tensor_type
                state[value.name] = _bytes(tensor.elem_type, [size.dim_value for size in tensor.shape.dim])
    return {"weight_bytes": weights, "state_bytes": sum(state.values())}


def _bytes(kind: int, sizes: Iterable[int]) -> int:
    return prod(sizes) * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
