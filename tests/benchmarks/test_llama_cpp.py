"""llama.cpp as a peer: tensors and hyperparameters in its layout, and logits beside transformers' where it is here."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.language import llama_cpp, write_gguf
from benchmarks.language.gguf_layout import GgufModel
from benchmarks.language.llama_structs import ContextParams, ModelParams, require_layout
from hycompile.errors import ArtifactError, DeviceError, Unsupported
from tests.benchmarks.tiny_language import MODELS, VOCABULARY, error, falcon_h1, mamba2, reference

needs_gguf = pytest.mark.skipif(write_gguf.missing() is not None, reason=str(write_gguf.missing()))
needs_library = pytest.mark.skipif(llama_cpp.missing() is not None, reason=str(llama_cpp.missing()))

PROMPT = 11


def test_falcon_h1_multipliers_are_in_the_weights() -> None:
    module = falcon_h1()
    state, model = module.state_dict(), write_gguf.gguf_model(module)
    source = "model.layers.1."
    factors = {
        "token_embd.weight": ("model.embed_tokens.weight", 1.3),
        "output.weight": ("lm_head.weight", 0.7),
        "blk.1.attn_q.weight": (source + "self_attn.q_proj.weight", 0.9),
        "blk.1.attn_k.weight": (source + "self_attn.k_proj.weight", 0.9 * 0.6),
        "blk.1.attn_v.weight": (source + "self_attn.v_proj.weight", 0.9),
        "blk.1.attn_output.weight": (source + "self_attn.o_proj.weight", 1.2),
        "blk.1.ffn_gate.weight": (source + "feed_forward.gate_proj.weight", 0.8),
        "blk.1.ffn_up.weight": (source + "feed_forward.up_proj.weight", 1.0),
        "blk.1.ffn_down.weight": (source + "feed_forward.down_proj.weight", 1.1),
        "blk.1.ssm_out.weight": (source + "mamba.out_proj.weight", 0.5),
    }
    for name, (original, factor) in factors.items():
        np.testing.assert_allclose(model.tensors[name], state[original].numpy() * factor, rtol=1e-6)
    rows = model.tensors["blk.1.ssm_in.weight"] / state[source + "mamba.in_proj.weight"].numpy() / 1.4
    pieces = np.split(rows, np.cumsum([96, 96, 64, 64]))
    for piece, factor in zip(pieces, [0.7, 1.2, 0.9, 1.1, 0.8], strict=True):
        np.testing.assert_allclose(piece, np.full_like(piece, factor), rtol=1e-5)
    assert len(pieces[-1]) == 6


@pytest.mark.parametrize(("family", "inner"), [("falcon_h1", 96), ("mamba2", 128)])
def test_mixers_are_laid_out_as_the_graph_reads_them(family: str, inner: int) -> None:
    module = MODELS[family]()
    model, state = write_gguf.gguf_model(module), module.state_dict()
    channels = inner + 2 * 2 * 32
    (source,) = (name.removesuffix("A_log") for name in state if name.endswith("layers.0." + _mixer(family) + ".A_log"))
    kernel, rate = model.tensors["blk.0.ssm_conv1d.weight"], model.tensors["blk.0.ssm_a"]
    np.testing.assert_array_equal(kernel, state[source + "conv1d.weight"].reshape(channels, 4).numpy())
    np.testing.assert_allclose(rate, -torch.exp(state[source + "A_log"]).numpy()[:, None], rtol=1e-6)
    heads = len(state[source + "D"])
    assert model.tensors["blk.0.ssm_d"].shape == (heads, 1)
    assert model.tensors["blk.0.ssm_dt.bias"].shape == (heads,)
    assert model.tensors["blk.0.ssm_norm.weight"].shape == (2, inner // 2)
    assert model.metadata[f"{model.architecture}.ssm.time_step_rank"] == heads
    assert model.metadata[f"{model.architecture}.ssm.inner_size"] == inner
    assert model.metadata[f"{model.architecture}.vocab_size"] == VOCABULARY


def _mixer(family: str) -> str:
    return "mamba" if family == "falcon_h1" else "mixer"


def test_a_convolution_without_bias_is_given_zeros() -> None:
    model = write_gguf.gguf_model(mamba2(use_conv_bias=False))
    assert not model.tensors["blk.1.ssm_conv1d.bias"].any()


def test_a_tied_head_is_written_once() -> None:
    model = write_gguf.gguf_model(mamba2(tie_word_embeddings=True))
    assert "output.weight" not in model.tensors
    assert "output.weight" not in model.matrices
    # Its two copies differ by their multipliers.
    assert "output.weight" in write_gguf.gguf_model(falcon_h1(tie_word_embeddings=True)).tensors


@pytest.mark.parametrize(
    ("family", "options", "seen"),
    [
        ("falcon_h1", {"mamba_norm_before_gate": True}, "mamba_norm_before_gate"),
        ("falcon_h1", {"time_step_limit": (0.1, 1.0)}, "time_step_limit"),
        ("falcon_h1", {"hidden_act": "gelu"}, "hidden_act"),
        ("falcon_h1", {"attention_bias": True}, "q_proj.bias|k_proj.bias"),
        ("falcon_h1", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type"),
        ("mamba2", {"use_bias": True}, "in_proj.bias"),
        ("mamba2", {"time_step_limit": (0.1, 1.0)}, "time_step_limit"),
        ("mamba2", {"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_what_llama_cpp_would_compute_differently_is_refused(family: str, options: dict[str, Any], seen: str) -> None:
    with pytest.raises(Unsupported, match=seen):
        write_gguf.gguf_model(MODELS[family](**options))


def test_a_class_without_mapping_is_refused() -> None:
    with pytest.raises(Unsupported, match="class Linear"):
        write_gguf.gguf_model(nn.Linear(2, 2))


def test_a_library_of_another_layout_is_refused() -> None:
    with pytest.raises(Unsupported, match="n_gpu_layers = 0"):
        require_layout(ModelParams(), ContextParams())


@needs_gguf
@pytest.mark.parametrize("family", sorted(MODELS))
def test_files_hold_what_was_mapped(family: str, tmp_path: Path) -> None:
    gguf: Any = import_module("gguf")

    model = write_gguf.gguf_model(MODELS[family]())
    exact = gguf.GGUFReader(write_gguf.write_gguf(model, tmp_path / "f32.gguf"))
    assert {tensor.name for tensor in exact.tensors} == set(model.tensors)
    for tensor in exact.tensors:
        np.testing.assert_array_equal(tensor.data, model.tensors[tensor.name])
    for key, value in model.metadata.items():
        field: Any = exact.get_field(key)
        assert field.contents() == (pytest.approx(value) if isinstance(value, float) else value)
    small = gguf.GGUFReader(write_gguf.write_gguf(model, tmp_path / "q4.gguf", "Q4_0"))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in small.tensors}
    assert {name for name, kind in kinds.items() if kind == "Q4_0"} == model.matrices
    assert {kind for name, kind in kinds.items() if name not in model.matrices} == {"F32"}


@pytest.fixture(params=sorted(MODELS))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Module, Path, GgufModel]:
    """A module, its file, and what was written."""
    module = MODELS[request.param]()
    model = write_gguf.gguf_model(module)
    return module, write_gguf.write_gguf(model, tmp_path / "model.gguf"), model


@needs_gguf
@needs_library
def test_logits_are_those_of_transformers(pair: tuple[nn.Module, Path, GgufModel]) -> None:
    module, path, _ = pair
    tokens = torch.randint(VOCABULARY, (PROMPT + 8,)).tolist()
    session = llama_cpp.load(path, threads=1, context=64, exact=True)
    for _ in range(2):
        first = session.prefill(tokens[:PROMPT])
        assert error(first.logits, reference(module, tokens[:PROMPT])) < 1e-5
        for end in range(PROMPT, PROMPT + 8):
            step = session.decode(tokens[end])
            assert error(step.logits, reference(module, tokens[: end + 1])) < 1e-5
        assert first.seconds > 0
        session.reset()
    session.close()


@needs_gguf
@needs_library
def test_state_is_that_of_one_sequence(pair: tuple[nn.Module, Path, GgufModel]) -> None:
    _, path, model = pair
    channels, taps = model.tensors["blk.0.ssm_conv1d.weight"].shape
    inner = model.tensors["blk.0.ssm_out.weight"].shape[1]
    keys = model.tensors["blk.0.attn_k.weight"].shape[0] if "blk.0.attn_k.weight" in model.tensors else 0
    session = llama_cpp.load(path, threads=1, context=64, exact=True)
    session.prefill(list(range(PROMPT)))
    expected = 2 * 4 * (channels * (taps - 1) + inner * 32 + 2 * PROMPT * keys)
    assert expected <= session.state_bytes <= expected + 1024
    assert session.variant
    session.close()


@needs_gguf
@needs_library
def test_quantised_weights_are_near(tmp_path: Path) -> None:
    module = mamba2()
    path = write_gguf.write_gguf(write_gguf.gguf_model(module), tmp_path / "q4.gguf", "Q4_0")
    session = llama_cpp.load(path, threads=1, context=64)
    tokens = list(range(PROMPT))
    assert 1e-4 < error(session.prefill(tokens).logits, reference(module, tokens)) < 0.5
    session.close()


@needs_library
def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ArtifactError, match=r"model\.gguf"):
        llama_cpp.load(tmp_path / "model.gguf", threads=1, context=64)


@needs_gguf
@needs_library
def test_a_refusal_leaves_the_session_alive_and_a_death_is_told(tmp_path: Path) -> None:
    path = write_gguf.write_gguf(write_gguf.gguf_model(mamba2()), tmp_path / "model.gguf")
    session = llama_cpp.load(path, threads=1, context=64)
    with pytest.raises(ArtifactError, match="returned"):
        session.decode(VOCABULARY)
    assert session.decode(0).logits.shape == (VOCABULARY,)
    os.kill(session.process_id, signal.SIGKILL)
    with pytest.raises(DeviceError, match="SIGKILL"):
        session.decode(0)
    session.close()
