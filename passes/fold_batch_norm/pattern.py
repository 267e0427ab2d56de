"""The batch norm that every rule of this folder starts from."""

from __future__ import annotations

from torch import Tensor

from hycompile.builder import Value
from hycompile.passes.affine import Affine, of_batch_norm
from hycompile.pattern import Any, Arg, Call, Const
from hycompile.rewrite import require

BATCH_NORM = Call(
    "aten.batch_norm",
    name="norm",
    input=Any("x"),
    weight=Const("gamma", optional=True),
    bias=Const("beta", optional=True),
    running_mean=Const("mean", optional=True),
    running_var=Const("var", optional=True),
    eps=Arg("eps"),
)


def affine_of(
    norm: Value, gamma: Tensor | None, beta: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> Affine:
    """The affine map that ``norm`` is, provided it uses statistics kept from training."""
    kept = mean is not None and var is not None and not norm["training"]
    require(kept, "{} normalises by the statistics of its batch, which only run time knows", norm.node.name)
    return of_batch_norm(gamma, beta, mean, var, eps)  # type: ignore[arg-type]
