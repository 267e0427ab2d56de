"""Writes a transformers model into a file llama.cpp loads, with the ``gguf`` package of llama.cpp's authors."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.language.gguf_falcon_h1 import falcon_h1
from benchmarks.language.gguf_layout import GgufModel
from benchmarks.language.gguf_mamba2 import mamba2
from hycompile.errors import Unsupported

if TYPE_CHECKING:
    from torch import nn

Storage = Literal["F32", "Q4_0"]
_MAPPINGS = {"FalconH1ForCausalLM": falcon_h1, "Mamba2ForCausalLM": mamba2}
# llama.cpp's ``LLAMA_FTYPE_*``: what it says of a file, with no influence on reading it.
_FILE_TYPES = {"F32": 0, "Q4_0": 2}


def missing() -> str | None:
    """None where files can be written; otherwise what to install."""
    return None if find_spec("gguf") else "gguf not installed: pip install -c constraints.txt -e '.[peers]'"


def gguf_model(module: nn.Module) -> GgufModel:
    """The tensors and hyperparameters of a transformers model, named and laid out as llama.cpp wants them.

    Raises:
        Unsupported: for a class without a mapping, or options that llama.cpp's graph does not have.
    """
    name = type(module).__name__
    if name not in _MAPPINGS:
        raise Unsupported(f"class {name}", "no mapping to llama.cpp is written", f"use {' or '.join(_MAPPINGS)}")
    return _MAPPINGS[name](module)


def write_gguf(model: GgufModel, path: Path, storage: Storage = "F32") -> Path:
    """Write one file.

    Args:
        model: what to write.
        path: where to; overwritten.
        storage: of matrices, embedding and head among them. ``Q4_0`` takes 4 bits a weight and a float16 scale for each
            32 along a row; a matrix whose rows are no multiple of 32 stays float32.

    Raises:
        Unsupported: when ``gguf`` is not installed.
    """
    absent = missing()
    if absent:
        raise Unsupported("GGUF", "the writer is not here", absent)
    gguf: Any = import_module("gguf")
    quantise: Any = import_module("gguf.quants").quantize
    plain, small = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType[storage]
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_file_type(_FILE_TYPES[storage])
    for key, value in model.metadata.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(key, value)
    block = gguf.GGML_QUANT_SIZES[small][0]
    for name, tensor in model.tensors.items():
        kind = small if name in model.matrices and tensor.shape[-1] % block == 0 else plain
        writer.add_tensor(name, quantise(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
