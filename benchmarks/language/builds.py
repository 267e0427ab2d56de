"""What a contender is built from, and where its files lie."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

Mode = Literal["prefill", "decode"]
Runtime = Literal["executorch", "onnx", "llama.cpp", "onnxruntime"]
Weights = Literal["fp32", "int4", "int8"]
Reader = Literal["gmu", "recompute", "mamba1", "diff-cross"]


class Strict(BaseModel):
    """Unknown fields are errors; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Build(Strict):
    """One model for one runtime. Builds of one model have the same weights.

    Args:
        model: a name of the family ``causal-lm`` or ``language``.
        runtime: ours are ``executorch`` and ``onnx``; ``onnxruntime`` is transformers' stock export.
        modes: which methods.
        prompt: tokens of a prefill; without one, of the example that decoding is checked on.
        context: tokens that caches have room for.
        weights: ``int4`` and ``int8`` are 8da4w and 8da8w through XNNPACK, ``int4`` of llama.cpp is its Q4_0.
        layers: as many of a published model's, from the first; None for all.
        reader: what stands in the place of SambaY's gated memory units; ``recompute`` is the same function.
        cut: whether the selection of the last token's row is pushed towards the inputs.
    """

    model: str
    runtime: Runtime
    modes: tuple[Mode, ...]
    prompt: int
    context: int
    weights: Weights = "fp32"
    layers: int | None = None
    reader: Reader = "gmu"
    cut: bool = True

    @property
    def label(self) -> str:
        """The model's name, and how much of it there is."""
        return self.model if self.layers is None else f"{self.model} ({self.layers} layers)"

    @property
    def folder(self) -> str:
        """A name that no other build has."""
        slug = re.sub(r"[^\w.]+", "-", f"{self.model} {self.runtime} {'-'.join(self.modes)}")
        return f"{slug}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]}"
