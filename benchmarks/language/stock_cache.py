"""A causal language model of transformers as two functions of explicit state, by transformers' own means.

Its ``StaticCache`` holds everything a sequence leaves behind in tensors of fixed shape. It is made anew inside each
call and filled with what came in: an exporter sees inputs and outputs instead of buffers, whose writes it would drop.
Forward functions, masks and cache updates are transformers', unchanged.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hycompile.errors import Unsupported


@dataclass(frozen=True)
class Slot:
    """Where a cache keeps one tensor: layer, attribute, and the number in that attribute if it is a dictionary."""

    layer: int
    attribute: str
    number: int | None = None


def slots(cache: Any) -> list[Slot]:
    """Where a used cache keeps tensors: keys, values and their count; convolutions' inputs, recurrent states."""
    found = list[Slot]()
    for index, layer in enumerate(cache.layers):
        if getattr(layer, "keys", None) is not None:
            found += [Slot(index, name) for name in ("keys", "values", "cumulative_length")]
        for name in ("conv_states", "recurrent_states"):
            states: dict[int, Tensor | None] = getattr(layer, name, {})
            found += [Slot(index, name, number) for number, state in states.items() if state is not None]
    return found


def read(cache: Any, slot: Slot) -> Tensor:
    """The tensor in this place."""
    held = getattr(cache.layers[slot.layer], slot.attribute)
    return held if slot.number is None else held[slot.number]


def write(cache: Any, slot: Slot, tensor: Tensor) -> None:
    """Put a tensor into an unused cache, and have that place look used."""
    layer = cache.layers[slot.layer]
    layer.dtype, layer.device = tensor.dtype, tensor.device
    if slot.number is None:
        setattr(layer, slot.attribute, tensor)
        layer.is_initialized = True
        return
    getattr(layer, slot.attribute)[slot.number] = tensor
    getattr(layer, f"is_{slot.attribute}_initialized")[slot.number] = True
    if slot.attribute == "conv_states":
        layer.conv_kernel_size[slot.number] = tensor.shape[-1]
        layer.has_previous_state[slot.number] = True


class Stock:
    """A language model of transformers and the caches it takes.

    Args:
        module: a ``...ForCausalLM``.
        context: tokens a cache has room for.
    """

    def __init__(self, module: nn.Module, context: int) -> None:
        self.module, self.context = module, context
        names = inspect.signature(module.forward).parameters
        self._cache = "cache_params" if "cache_params" in names else "past_key_values"

    def empty_cache(self) -> Any:
        """A cache that remembers nothing.

        Raises:
            Unsupported: where a layer's cache counts tokens in Python.
        """
        from transformers import StaticCache

        config: Any = self.module.config
        cache = StaticCache(config=config, max_cache_len=self.context)
        for layer in cache.layers:
            if getattr(layer, "is_sliding", False):
                raise Unsupported(
                    f"{type(layer).__name__} of {type(self.module).__name__}",
                    "its position is a number in Python, which a graph would freeze",
                    "choose a model without sliding windows",
                )
        return cache

    def logits(self, tokens: Tensor, cache: Any) -> Tensor:
        """The last token's [1, vocabulary], after everything in the cache, which is updated."""
        out = self.module(input_ids=tokens, use_cache=True, logits_to_keep=1, **{self._cache: cache})
        return out.logits[:, -1]

    @torch.no_grad()
    def used_cache(self, tokens: Tensor) -> Any:
        """The cache after a prompt."""
        cache = self.empty_cache()
        self.logits(tokens, cache)
        return cache


class Prefill(nn.Module):
    """A prompt of fixed length [1, L] from the beginning: the last token's logits, then the state in order of slots."""

    def __init__(self, stock: Stock) -> None:
        super().__init__()
        self._stock, self.module = stock, stock.module
        self.eval()

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        cache = self._stock.empty_cache()
        logits = self._stock.logits(tokens, cache)
        return (logits, *(read(cache, slot) for slot in slots(cache)))


class Decode(nn.Module):
    """One token [1, 1] and the state after all before it: its logits, then the new state.

    Args:
        stock: the model.
        slots: where the state's tensors belong.
    """

    def __init__(self, stock: Stock, slots: Sequence[Slot]) -> None:
        super().__init__()
        self._stock, self._slots, self.module = stock, slots, stock.module
        self.eval()

    def forward(self, token: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        cache = self._stock.empty_cache()
        for slot, tensor in zip(self._slots, state, strict=True):
            # The cache writes in place, and inputs belong to the caller.
            write(cache, slot, tensor.clone())
        logits = self._stock.logits(token, cache)
        return (logits, *(read(cache, slot) for slot in self._slots))
