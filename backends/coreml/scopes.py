"""A pass for coremltools' own pipeline: operators that two of its passes have made carry the name of one."""

from __future__ import annotations

from typing import Any

from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_registry import register_pass
from coremltools.converters.mil.mil.scope import ScopeSource

NAME = "hycompile::name_one_maker"
BEFORE = "common::canonicalize_inplace_pattern"


@register_pass(namespace="hycompile", name="name_one_maker")
class NameOneMaker(AbstractGraphPass):
    """Keeps the last pass that made an operator.

    coremltools 9.0 moves a state's write behind the operator that makes its value and takes that operator's scopes,
    with an error where two passes have made it, as in a cast of merged reshapes.
    """

    def apply(self, prog: Any) -> None:
        for function in prog.functions.values():
            for operation in function.operations:
                makers = operation.scopes.get(ScopeSource.COREMLTOOLS_GRAPH_PASS)
                if makers is not None and len(makers) > 1:
                    operation.scopes[ScopeSource.COREMLTOOLS_GRAPH_PASS] = makers[-1:]
