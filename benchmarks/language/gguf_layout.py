"""What a GGUF file holds, and how llama.cpp lays out a Mamba-2 mixer.

Shapes here are numpy's, slowest dimension first; GGUF and llama.cpp's sources list them in the opposite order. A matrix
is [out, in] in both worlds, so projections need no transposition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hycompile.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Metadata = dict[str, int | float | str]


@dataclass(frozen=True)
class GgufModel:
    """A model as llama.cpp reads it.

    Args:
        architecture: llama.cpp's name of the graph that computes it.
        metadata: hyperparameters by full key; integers become uint32, floats float32.
        tensors: float32 tensors by GGUF name.
        matrices: names of tensors that a quantised file stores in fewer bits; all others stay float32.
    """

    architecture: str
    metadata: Metadata
    tensors: dict[str, Floats]
    matrices: frozenset[str]


class Weights:
    """A state dict that gives each tensor away once, as float32 in numpy."""

    def __init__(self, model: str, state: Mapping[str, Tensor]) -> None:
        self._model = model
        self._left = dict(state)

    def take(self, name: str) -> Floats:
        """The tensor of this name."""
        return self._left.pop(name).detach().float().numpy()

    def take_if_any(self, name: str) -> Floats | None:
        """The tensor of this name, or None where the model has none."""
        return self.take(name) if name in self._left else None

    def require_all_taken(self) -> None:
        """llama.cpp would compute something else without what is left."""
        if self._left:
            raise Unsupported(
                f"{self._model} with {', '.join(sorted(self._left)[:3])}",
                f"llama.cpp's graph has no place for {len(self._left)} of its tensors",
                "leave those biases out of the configuration",
            )


def require(holds: bool, seen: str, reason: str, way_out: str) -> None:
    """Refuse a configuration that llama.cpp would compute differently."""
    if not holds:
        raise Unsupported(seen, reason, way_out)


def require_common(config: Any) -> None:
    """Refuse what no graph of llama.cpp with a Mamba-2 mixer computes."""
    limit, activation = tuple(config.time_step_limit), config.hidden_act
    unlimited = limit == (0.0, float("inf"))
    require(unlimited, f"time_step_limit={limit}", "llama.cpp clamps no time steps", "set (0, infinity)")
    require(activation == "silu", f"hidden_act={activation!r}", "llama.cpp's graph computes SiLU", "use 'silu'")


def mixer(weights: Weights, source: str, block: str, groups: int) -> dict[str, Floats]:
    """A Mamba-2 mixer's tensors, all but its projections.

    conv [C, 1, K] -> [C, K];  A_log [H] -> A = -exp(A_log) [H, 1];  D [H] -> [H, 1];  norm [I] -> [G, I/G].

    Args:
        weights: where they are taken from.
        source: prefix of the mixer's names in transformers, without the last dot.
        block: prefix in GGUF, ``blk.N``.
        groups: G, over each of which the gated norm averages.
    """
    kernel = weights.take(f"{source}.conv1d.weight")[:, 0]
    bias = weights.take_if_any(f"{source}.conv1d.bias")
    # llama.cpp adds a bias whether or not there is one.
    tensors = {
        f"{block}.ssm_conv1d.weight": kernel,
        f"{block}.ssm_conv1d.bias": np.zeros(len(kernel), np.float32) if bias is None else bias,
        f"{block}.ssm_dt.bias": weights.take(f"{source}.dt_bias"),
        f"{block}.ssm_a": -np.exp(weights.take(f"{source}.A_log"))[:, None],
        f"{block}.ssm_d": weights.take(f"{source}.D")[:, None],
    }
    norm = weights.take_if_any(f"{source}.norm.weight")
    if norm is not None:
        tensors[f"{block}.ssm_norm.weight"] = norm.reshape(groups, -1)
    return tensors


def mixer_metadata(architecture: str, *, inner: int, heads: int, groups: int, state: int, kernel: int) -> Metadata:
    """A Mamba-2 mixer's sizes; llama.cpp calls the number of heads the rank of the time step."""
    return {
        f"{architecture}.ssm.conv_kernel": kernel,
        f"{architecture}.ssm.inner_size": inner,
        f"{architecture}.ssm.state_size": state,
        f"{architecture}.ssm.time_step_rank": heads,
        f"{architecture}.ssm.group_count": groups,
    }


def without_tokenizer(architecture: str, vocabulary: int) -> Metadata:
    """Metadata of a model that is fed with token numbers and has no text for them."""
    return {"tokenizer.ggml.model": "no_vocab", f"{architecture}.vocab_size": vocabulary}
