"""Matrix products of any rank as batched products of rank 3, the one form XNNPACK's partitioner has an entry for."""

from __future__ import annotations

import math

from hycompile.backends.executorch.forms.sizes import inferred, require_fixed
from hycompile.builder import Value, call
from hycompile.pattern import Any, Call
from hycompile.rewrite import require, rule


@rule(
    Call("aten.matmul", name="product", self=Any("a"), other=Any("b")),
    source="definition of matmul: leading axes are batches",
)
def expand_matmul(product: Value, a: Value, b: Value) -> Value:
    """a [..., n, k] @ b [..., k, m] = reshape(bmm(reshape(a, [B, n, k]), reshape(b, [B, k, m]))).

    Given: a product of more than two axes with equal leading sizes, or with a second factor of two axes.
    Result: one ``bmm``. Left alone it becomes ``expand_copy`` on portable kernels around one.

    Refused for vectors, for two matrices (a linear layer takes them), for dynamic lengths and where batches broadcast.
    """
    require(len(a.shape) > 2 and len(b.shape) >= 2, "its factors have ranks {} and {}", len(a.shape), len(b.shape))
    *lead, n, k = list(a.shape)
    m = list(b.shape)[-1]
    require_fixed((n, k, m))
    whole = inferred((*lead, n, m))
    if len(b.shape) == 2:
        rows = call("aten.reshape", a, [1, -1, k])
        return call("aten.reshape", call("aten.bmm", rows, call("aten.reshape", b, [1, k, m])), whole)
    require(list(b.shape[:-2]) == lead, "its batches {} and {} differ", lead, list(b.shape[:-2]))
    batch = -1 if -1 in whole else math.prod(lead)
    product3 = call("aten.bmm", call("aten.reshape", a, [batch, n, k]), call("aten.reshape", b, [batch, k, m]))
    return call("aten.reshape", product3, whole)
