"""onnxscript's rewrites do the same when they are quick, and the rule that walks the graph is asked at slices only."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules.common import slice_split_rule

from hycompile.backends.onnx.quick_rewrites import quick_rewrites

FIRST = "a = Slice(p, zero, half, axis{steps})"
SECOND = "b = Slice(p, half, all, axis{steps})"


def model(*slices: str, steps: str = "") -> ir.Model:
    """Halves of the last axis, and a chain of twenty operators."""
    lines = [line.format(steps=steps) for line in slices]
    chain = [f"r{number + 1} = Relu(r{number})" for number in range(20)]
    body = "\n".join(["p = Abs(x)", *lines, "r0 = Add(a, b)", *chain, "y = Exp(r20)"])
    return ir.serde.deserialize_model(
        onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20]>
        graph (float[2, 8] x) => (float[2, 4] y)
        <int64[1] zero = {{0}}, int64[1] half = {{4}}, int64[1] all = {{8}},
         int64[1] axis = {{-1}}, int64[1] one = {{1}}>
        {{ {body} }}""")
    )


@pytest.mark.parametrize(
    ("slices", "steps", "operator"),
    [((SECOND, FIRST), "", "Split"), ((FIRST, SECOND), "", "Slice"), ((SECOND, FIRST), ", one", "Slice")],
)
def test_the_result_is_the_same(slices: tuple[str, str], steps: str, operator: str) -> None:
    slow, quick = model(*slices, steps=steps), model(*slices, steps=steps)
    optimizer.optimize_ir(slow)
    with quick_rewrites():
        optimizer.optimize_ir(quick)
    assert ir.serde.serialize_model(quick) == ir.serde.serialize_model(slow)
    assert operator in [node.op_type for node in quick.graph]


def test_only_a_first_slice_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    complete = type(slice_split_rule).try_rewrite

    def noted(self: Any, whole: Any, graph: Any, node: Any, **options: Any) -> Any:
        if self is slice_split_rule:
            asked.append(node.op_type)
        return complete(self, whole, graph, node, **options)

    monkeypatch.setattr(type(slice_split_rule), "try_rewrite", noted)
    with quick_rewrites():
        rewriter.rewrite(model(FIRST, SECOND))
    assert asked == ["Slice", "Slice"]
    asked.clear()
    rewriter.rewrite(model(FIRST, SECOND))
    assert len(asked) > 20
