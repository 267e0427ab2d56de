"""A prebuilt libllama, called through ctypes.

Whatever goes wrong inside may end the process: use it through ``llama_cpp``, which gives it one of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from ctypes import CDLL, c_bool, c_char_p, c_float, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.language.llama_structs import (
    FLASH_ATTENTION_OFF,
    GGML_TYPE_F32,
    Batch,
    ContextParams,
    ModelParams,
    require_layout,
)
from benchmarks.language.session import Logits
from hycompile.errors import ArtifactError, HycompileError

VERSION = "v0.5.0"
_VARIABLE, _DEFAULT = "LLAMA_CPP_FOLDER", Path(__file__).parents[2] / ".llama-cpp"
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (ctypes.POINTER(c_float), [c_void_p, c_int32]),
    "llama_state_seq_get_size": (c_size_t, [c_void_p, c_int32]),
}


def folder() -> Path:
    """The shared libraries', in the package unpacked under ``LLAMA_CPP_FOLDER`` or the root's ``.llama-cpp``."""
    return Path(os.environ.get(_VARIABLE, _DEFAULT)) / "package" / "bins" / "linux-x64"


def missing() -> str | None:
    """None where the library is; otherwise what is not there, and how to get it."""
    if (folder() / f"libllama.{VERSION}.so").is_file():
        return None
    return f"no libllama.{VERSION}.so: benchmarks/language/README.md says how to get it"


class LlamaLibrary:
    """libllama with whichever of its CPU variants its own loader picks for this processor.

    Raises:
        Unsupported: when its structs are not laid out as in ``llama_structs``.
    """

    def __init__(self) -> None:
        ggml: Any = CDLL(str(folder() / f"libggml.{VERSION}.so"))
        ggml.ggml_backend_load_all_from_path.argtypes = [c_char_p]
        ggml.ggml_backend_load_all_from_path(str(folder()).encode())
        self.api: Any = CDLL(str(folder() / f"libllama.{VERSION}.so"))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.api, name)
            function.restype, function.argtypes = result, arguments
        require_layout(self.api.llama_model_default_params(), self.api.llama_context_default_params())
        self.api.llama_backend_init()

    @property
    def variant(self) -> str:
        """Name of the CPU variant in use, such as ``haswell``: the one still mapped after the loader tried them all."""
        mapped = set(re.findall(r"libggml-cpu-(\w+)\.so", Path("/proc/self/maps").read_text()))
        return ",".join(sorted(mapped))


class LlamaSequence:
    """A model loaded from a file, and one sequence.

    Args:
        library: the library.
        path: GGUF file.
        threads: for prompts and single tokens alike.
        context: tokens the sequence may have.
        exact: keys and values in float32 and attention written out; otherwise the library's defaults, which are float16
            and fused attention.

    Raises:
        ArtifactError: when the library takes the file for none, or cannot give the context.
    """

    def __init__(self, library: LlamaLibrary, path: Path, threads: int, context: int, exact: bool) -> None:
        self._api, self._path = library.api, path
        self._model = self._api.llama_model_load_from_file(str(path).encode(), self._api.llama_model_default_params())
        if not self._model:
            raise self._broken("llama.cpp cannot load it")
        params = self._api.llama_context_default_params()
        # A prompt is one batch; the library cuts it into pieces of n_ubatch tokens by itself.
        params.n_ctx = params.n_batch = context
        params.n_threads = params.n_threads_batch = threads
        if exact:
            params.type_k = params.type_v = GGML_TYPE_F32
            params.flash_attn_type = FLASH_ATTENTION_OFF
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise self._broken(f"llama.cpp cannot make a context of {context} tokens")
        self._vocabulary = self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(self._model))

    def append(self, tokens: Sequence[int]) -> Logits:
        """Continue the sequence; the last token's logits [vocabulary].

        Raises:
            ArtifactError: when the library refuses, as it does beyond the context.
        """
        batch = Batch(n_tokens=len(tokens), token=(c_int32 * len(tokens))(*tokens))
        code = self._api.llama_decode(self._context, batch)
        if code:
            raise self._broken(f"llama_decode of {len(tokens)} tokens returned {code}")
        logits = self._api.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, (self._vocabulary,)).copy()

    def clear(self) -> None:
        """Forget the sequence."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)

    @property
    def state_bytes(self) -> int:
        """Bytes of the sequence's state as the library would save it: a header and tens of bytes a layer are added."""
        return self._api.llama_state_seq_get_size(self._context, 0)

    def _broken(self, reason: str) -> HycompileError:
        return ArtifactError(self._path.name, reason, "read what the library printed above")
