"""Einsums of two operands that are batched products."""

from __future__ import annotations

from collections.abc import Sequence

from torch.fx import Node

from hycompile.builder import Value, call
from hycompile.passes.fuse_conv_attention.moves import permuted
from hycompile.pattern import Arg, Call
from hycompile.rewrite import require, rule


@rule(
    Call("aten.einsum", equation=Arg("equation"), tensors=Arg("tensors")),
    source="definition of einsum: labels of both operands and the result are batch, labels of no result are summed",
)
def einsum_to_matmul(equation: str, tensors: Sequence[Node]) -> Value:
    """einsum(b l e, b s e -> b l s) = matmul(permute(a), permute(b)), permuted.

    Given: an einsum of two operands with one label of rows, one of columns, one that is summed, and any number of batch
    labels, such as queries times keys.
    Result: one matmul between permutes, which join the moves around them.

    Refused for other numbers of operands or labels, for ellipses, and for a label twice in one operand.
    """
    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    require(arrow and "." not in equation, "the einsum {!r} does not name every axis", equation)
    require(len(terms) == len(tensors) == 2, "the einsum {!r} has {} operands", equation, len(tensors))
    left, right = terms
    once = all(len(set(term)) == len(term) for term in (left, right, result))
    require(once, "the einsum {!r} names an axis twice", equation)
    batch = [label for label in left if label in right and label in result]
    rows = [label for label in left if label not in right and label in result]
    columns = [label for label in right if label not in left and label in result]
    summed = [label for label in left if label in right and label not in result]
    product = len(rows) == len(columns) == len(summed) == 1
    whole = set(left) == {*batch, *rows, *summed} and set(right) == {*batch, *columns, *summed}
    require(product and whole, "the einsum {!r} is no batched product of matrices", equation)
    first, second = (Value(tensor) for tensor in tensors)
    multiplied = call(
        "aten.matmul",
        permuted(first, [left.index(label) for label in (*batch, *rows, *summed)]),
        permuted(second, [right.index(label) for label in (*batch, *summed, *columns)]),
    )
    have = [*batch, *rows, *columns]
    return permuted(multiplied, [have.index(label) for label in result])
