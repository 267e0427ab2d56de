"""The structs of ``llama.h``, as of llama.cpp v0.5.0.

They travel by value, so every field counts. The library fills them with its defaults; we change a few fields.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_bool, c_float, c_int, c_int8, c_int32, c_size_t, c_uint32, c_void_p

from hycompile.errors import Unsupported

GGML_TYPE_F32, GGML_TYPE_F16 = 0, 1
FLASH_ATTENTION_AUTO, FLASH_ATTENTION_OFF = -1, 0


class ModelParams(Structure):
    """``llama_model_params``."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ContextParams(Structure):
    """``llama_context_params``."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(Structure):
    """``llama_batch``: tokens of one sequence, of which the last one's logits are wanted, need only the first two."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", ctypes.POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", ctypes.POINTER(c_int8)),
    )


# Defaults from one end of each struct to the other, which another version's layout would not show in these places.
_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "use_extra_bufts": True}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_outputs_max_per_seq": 1,
    "flash_attn_type": FLASH_ATTENTION_AUTO,
    "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0,
    "type_k": GGML_TYPE_F16,
    "type_v": GGML_TYPE_F16,
    "embeddings": False,
    "offload_kqv": True,
    "swa_full": True,
    "kv_unified": False,
}


def require_layout(model: ModelParams, context: ContextParams) -> None:
    """Refuse a library whose defaults are not where this version has them.

    Raises:
        Unsupported: naming the first field that differs.
    """
    for params, defaults in ((model, _MODEL_DEFAULTS), (context, _CONTEXT_DEFAULTS)):
        for name, expected in defaults.items():
            found = getattr(params, name)
            if found != expected:
                raise Unsupported(
                    f"{type(params).__name__}.{name} = {found}",
                    f"llama.cpp v0.5.0 says {expected}",
                    "use the version in benchmarks/language/README.md",
                )
