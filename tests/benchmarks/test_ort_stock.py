"""transformers' own models through ONNX Runtime by stock export: prompts, single tokens, and what has no export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.language import ort_stock
from hycompile.errors import ArtifactError, Unsupported
from hycompile.models.torchvision_schemas import declare_missing_operators
from tests.benchmarks.tiny_language import MODELS, VOCABULARY, error, mamba2, reference

PROMPT, STEPS, CONTEXT = 11, 8, 24


@pytest.mark.parametrize("family", [pytest.param("falcon_h1", marks=pytest.mark.slow), "mamba2"])
def test_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    module = MODELS[family](num_hidden_layers=1)
    written = ort_stock.export(module, PROMPT, CONTEXT, tmp_path)
    assert [(export.mode, export.reason) for export in written] == [("prefill", None), ("decode", None)]
    tokens = torch.randint(VOCABULARY, (PROMPT + STEPS,)).tolist()
    session = ort_stock.load(tmp_path, threads=1)
    for _ in range(2):
        assert session.state_bytes == 0
        first = session.prefill(tokens[:PROMPT])
        steps = [session.decode(token) for token in tokens[PROMPT:]]
        for end, step in enumerate([first, *steps], PROMPT):
            assert error(step.logits, reference(module, tokens[:end])) < 1e-5
        assert session.state_bytes == state_bytes(family)
        session.reset()
    # Token by token from nothing is the same sequence.
    singly = [session.decode(token) for token in tokens[:PROMPT]]
    assert error(singly[-1].logits, reference(module, tokens[:PROMPT])) < 1e-5
    with pytest.raises(ArtifactError, match="reset first"):
        session.prefill(tokens[:PROMPT])
    session.reset()
    with pytest.raises(ArtifactError, match=r"12 tokens: prefill\.onnx takes 11"):
        session.prefill(tokens[: PROMPT + 1])
    session.close()


def state_bytes(family: str) -> int:
    """Convolution's inputs, recurrent state, and with attention keys, values and a count of tokens."""
    if family == "mamba2":
        return 4 * ((128 + 2 * 2 * 32) * 4 + 128 * 32)
    return 4 * ((96 + 2 * 2 * 32) * 4 + 96 * 32 + 2 * 2 * CONTEXT * 16) + 8


def test_what_cannot_be_exported_is_reported(tmp_path: Path) -> None:
    module = mamba2(num_hidden_layers=1)

    def refuse(*_: Any) -> None:
        raise NotImplementedError("no such kernel in /somewhere/else/kernels.py")

    module.register_forward_pre_hook(refuse)
    written = ort_stock.export(module, PROMPT, CONTEXT, tmp_path)
    assert [export.mode for export in written] == ["prefill", "decode"]
    for export in written:
        assert export.path is None
        assert export.seconds > 0
        assert "no such kernel in kernels.py" in str(export.reason)
    with pytest.raises(Unsupported, match="no exported graph"):
        ort_stock.load(tmp_path, threads=1)


def test_a_missing_graph_is_missed_when_it_is_needed() -> None:
    with pytest.raises(Unsupported, match=r"decode\.onnx: it was not exported"):
        ort_stock.OrtStockSession(None, None).decode(0)


def test_sliding_windows_are_refused() -> None:
    from benchmarks.language.stock_cache import Stock

    declare_missing_operators()
    from transformers import MistralConfig, MistralForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    config = MistralConfig(vocab_size=VOCABULARY, num_hidden_layers=1, sliding_window=4, **sizes)
    with pytest.raises(Unsupported, match="StaticSlidingWindowLayer of MistralForCausalLM"):
        Stock(MistralForCausalLM(config), CONTEXT).empty_cache()
