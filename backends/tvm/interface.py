"""How a library's functions are called: ``interface.json`` beside it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MethodInterface(BaseModel):
    """One function: it takes inputs, state and weights, in this order, and returns outputs, then state.

    ``inputs`` are the torch types of the method's inputs, which a half-precision library takes as float16;
    ``state_in`` and ``state_out`` are buffer names; ``weights`` are names in ``weights.safetensors``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: tuple[str, ...]
    state_in: tuple[str, ...]
    state_out: tuple[str, ...]
    outputs: int
    weights: tuple[str, ...]


class Interface(BaseModel):
    """Every function of a library by method name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: dict[str, MethodInterface]
