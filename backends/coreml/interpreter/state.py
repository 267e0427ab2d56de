"""State: tensors that outlive a prediction. The interpreter hands the stored tensor itself to these operators."""

from __future__ import annotations

from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import operator


@operator("read_state", moves=True)
def read_state(input: Tensor) -> Tensor:
    """A copy of the state's content, which later updates leave alone."""
    return input.clone()


@operator("coreml_update_state", moves=True)
def coreml_update_state(state: Tensor, value: Tensor) -> Tensor:
    """Store ``value``; the result is the value."""
    state.copy_(value)
    return value
