"""State between calls: one set of buffers, and what a mixer sees of it during one call.

transformers hands an object called ``past_key_values`` or ``cache_params`` through to every mixer. Here that is a
:class:`Stateless` or one of its kinds, which answers the two questions a mixer has: what came before, and where to
leave what comes after. Layers are numbered as in transformers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hycompile.recurrence import cache_write, causal_conv


class State(nn.Module):
    """Persistent buffers ``layer_N.KIND``, all zero, where KIND is keys, values, conv or recurrent.

    Args:
        slots: tokens a key-value cache holds; token ``p`` stands at slot ``p % slots``.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def add(self, layer: int, kind: str, like: Tensor) -> None:
        """Register a buffer of the shape and type of a value."""
        if f"layer_{layer}" not in self._modules:
            self.add_module(f"layer_{layer}", nn.Module())
        self.get_submodule(f"layer_{layer}").register_buffer(kind, torch.zeros_like(like))

    def read(self, layer: int, kind: str) -> Tensor:
        """The buffer."""
        return self.get_buffer(f"layer_{layer}.{kind}")

    def write(self, layer: int, kind: str, value: Tensor) -> None:
        """Overwrite the buffer."""
        self.read(layer, kind).copy_(value)


class Stateless:
    """A call that starts from nothing and leaves nothing."""

    # How many tokens of the call count, [1]; None for all.
    count: Tensor | None = None

    def real(self, x: Tensor) -> Tensor:
        """``x`` [batch, tokens, ...] with zeros for tokens that are padding."""
        return x

    def before(self, layer: int, kind: str, zeros: Tensor) -> Tensor:
        """State before the call; ``zeros`` is what it is at the start of a text."""
        return zeros

    def after(self, layer: int, kind: str, value: Tensor) -> None:
        """Leave the state for the next call."""

    def convolve(self, layer: int, x: Tensor, conv: nn.Conv1d) -> Tensor:
        """A depthwise causal convolution of ``x`` [batch, tokens, channels], over the tokens of earlier calls too."""
        taps = conv.kernel_size[0]
        zeros = x.new_zeros(x.shape[0], x.shape[2], taps - 1)
        y, last = causal_conv(x, conv.weight.squeeze(1), conv.bias, self.before(layer, "conv", zeros), self.count)
        self.after(layer, "conv", last)
        return y

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values to attend to, given the call's own [batch, heads, tokens, width]; name and order are HF's."""
        return keys, values


class Measure(Stateless):
    """A call that leaves nothing but the buffers it would have needed."""

    def __init__(self, state: State) -> None:
        self.state = state

    def after(self, layer: int, kind: str, value: Tensor) -> None:
        self.state.add(layer, kind, value)

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        for kind, value in (("keys", keys), ("values", values)):
            self.state.add(layer, kind, value[:, :, :1].expand(-1, -1, self.state.slots, -1))
        return keys, values


class Prompt(Stateless):
    """A call that starts a text: whatever the buffers held is forgotten.

    Args:
        state: the buffers.
        tokens: how many tokens come.
        count: [1], how many of them count, from the first; the others are padding and leave no trace.
    """

    def __init__(self, state: State, tokens: int, count: Tensor) -> None:
        self.state, self.count, self.start = state, count, torch.zeros_like(count)
        self.is_real = torch.arange(tokens) < count

    def real(self, x: Tensor) -> Tensor:
        mask = self.is_real.reshape(1, -1, *[1] * (x.ndim - 2))
        return x * mask.to(x.dtype)

    def after(self, layer: int, kind: str, value: Tensor) -> None:
        self.state.write(layer, kind, value)

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        for kind, value in (("keys", keys), ("values", values)):
            empty = torch.zeros_like(self.state.read(layer, kind))
            self.state.write(layer, kind, cache_write(empty, value, self.start, self.count))
        return keys, values


class Token(Stateless):
    """A call that goes on with one token.

    Args:
        state: the buffers.
        position: [1], how many tokens came before.
    """

    def __init__(self, state: State, position: Tensor) -> None:
        self.state, self.position = state, position

    def before(self, layer: int, kind: str, zeros: Tensor) -> Tensor:
        return self.state.read(layer, kind)

    def after(self, layer: int, kind: str, value: Tensor) -> None:
        self.state.write(layer, kind, value)

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        written: list[Tensor] = []
        for kind, value in (("keys", keys), ("values", values)):
            written.append(cache_write(self.state.read(layer, kind), value, self.position))
            self.state.write(layer, kind, written[-1])
        return written[0], written[1]
