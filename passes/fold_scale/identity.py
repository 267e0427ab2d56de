"""Maps that change nothing."""

from __future__ import annotations

from torch.fx import GraphModule

from hycompile.builder import Value
from hycompile.passes.fold_scale.pattern import ConstantMap
from hycompile.pattern import Captures
from hycompile.rewrite import rule


class IdentityMap(ConstantMap):
    """A constant map whose result is its input."""

    def match(self, module: GraphModule, value: object, captures: Captures) -> Captures | None:
        found = super().match(module, value, captures)
        if found is None or found["affine"].shifts or bool((found["affine"].scale != 1).any()):
            return None
        return found


@rule(IdentityMap(), source="0 and 1 are the neutral elements")
def drop_identity_map(x: Value) -> Value:
    """x + 0 = x,  1 x = x.

    Given: a sum that started at zero, as timm's FastViT builds it; a scale of ones.
    Result: nothing.
    """
    return x
