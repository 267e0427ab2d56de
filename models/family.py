"""What a model family is: a source of models by name. Families register by entry point in ``hycompile.models``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from hycompile.capture import Call
    from hycompile.program import Step


@dataclass(frozen=True)
class Description:
    """What the listing says about one model.

    Args:
        name: the name ``build`` takes.
        family: name of its family.
        input_shape: of the first example input: an image [N, C, H, W], or tokens [N, L].
        licence: SPDX identifier of the architecture's code, and of the weights where they are real.
        source: where architecture and weights come from.
        pretrained: True for real weights, False for seeded random ones.
    """

    name: str
    family: str
    input_shape: tuple[int, ...]
    licence: str
    source: str
    pretrained: bool


@dataclass(frozen=True)
class Built:
    """A module in ``eval()`` with what ``hycompile.capture`` needs besides it.

    Args:
        module: the model.
        args: example positional inputs of its ``forward``.
        kwargs: example keyword inputs of its ``forward``.
        dynamic_shapes: of these inputs, as for ``torch.export.export``.
        methods: what is captured instead of ``forward``, where a model is several entry points over shared state.
        script: calls of them in the order in which the model is used, as for ``hycompile.capture``.
        tokenizer: the ``tokenizer.json`` of a language model, which its artifacts carry.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    dynamic_shapes: Any = None
    methods: Mapping[str, Call] | None = None
    script: tuple[Step, ...] = ()
    tokenizer: Path | None = None


class Family(Protocol):
    """A source of models. Importing one must be cheap: libraries are imported when a model is described or built."""

    name: str

    def names(self) -> list[str]:
        """Names of all models, sorted, found without importing the library behind them."""
        ...

    def aliases(self) -> Mapping[str, str]:
        """Other spellings that users know, to the name they stand for."""
        ...

    def describe(self, name: str) -> Description:
        """What the model is, without building it."""
        ...

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        """A text that differs whenever ``build`` would give another model: library versions and weights included.

        Found without building, so that a cache can be asked first. A tokenizer counts as much as weights.
        """
        ...

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        """The model in ``eval()`` with example inputs.

        Args:
            name: one of ``names()``.
            resolution: height and width of the image; the model's own by default. Families without images refuse it.
            seed: of random weights and example inputs.

        Raises:
            CaptureError: the library is missing, the weights cannot be had, or the model refuses the resolution.
        """
        ...
