"""The batch norm that every rule of this folder starts from."""

from __future__ import annotations

from hycompile.pattern import Any, Arg, Call, Const

BATCH_NORM = Call(
    "aten.batch_norm",
    name="norm",
    input=Any("x"),
    weight=Const("gamma", optional=True),
    bias=Const("beta", optional=True),
    running_mean=Const("mean"),
    running_var=Const("var"),
    training=False,
    eps=Arg("eps"),
)
