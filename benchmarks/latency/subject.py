"""The model under test: one seeded module, its inputs, and what it computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks.exports import export
from benchmarks.models import load_module

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hycompile.artifact import MethodSpec

Run = Callable[[Sequence["Tensor"]], Sequence["Tensor"]]


class Subject:
    """One model as each contender meets it.

    Args:
        model: a registered name or ``package.module:function``; the same name gives the same weights in any process.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.module, self.args = load_module(model)

    @cached_property
    def peer_module(self) -> nn.Module:
        """What a careful user of another tool hands it: train-time branches merged where timm knows how."""
        from hycompile.models.torchvision_schemas import declare_missing_operators

        declare_missing_operators()
        from timm.utils.model import reparameterize_model

        return reparameterize_model(self.module).eval()

    @cached_property
    def exported(self) -> Any:
        """``peer_module`` as torch captures it."""
        return export(self.peer_module, self.args)

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """The example inputs, flat: what is timed."""
        from torch.utils import _pytree as pytree

        return tuple(pytree.tree_leaves(self.args))

    def spec(self) -> MethodSpec:
        """The flat signature of ``forward``."""
        from hycompile.artifact import MethodSpec, TensorSpec

        def described(kind: str, tensors: Sequence[Tensor]) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(name=f"{kind}_{index}", shape=tuple(value.shape), dtype=str(value.dtype).split(".")[1])
                for index, value in enumerate(tensors)
            )

        return MethodSpec(inputs=described("input", self.inputs), outputs=described("output", self.eager(self.inputs)))

    def eager(self, inputs: Sequence[Tensor], module: nn.Module | None = None) -> tuple[Tensor, ...]:
        """Flat outputs of the module as its author wrote it, or of another one with the same signature."""
        import torch
        from torch.utils import _pytree as pytree

        _, structure = pytree.tree_flatten(self.args)
        called = self.module if module is None else module
        with torch.no_grad():
            return tuple(pytree.tree_leaves(called(*pytree.tree_unflatten(list(inputs), structure))))

    def error(self, run: Run) -> float:
        """The largest relative error of a contender on the inputs that are timed, and on others.

        The others show an artifact that computed its answer while it was built.
        """
        from hycompile.parity import relative_error

        worst = 0.0
        for inputs in (self.inputs, tuple(-0.5 * value.flip(-1) for value in self.inputs)):
            # Outputs may lie in memory that the next execution writes.
            error = relative_error([value.clone() for value in run(inputs)], self.eager(inputs))
            worst = max(worst, error if math.isfinite(error) else math.inf)
        return worst
