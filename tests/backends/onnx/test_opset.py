"""The way down to opset 17, node by node."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from hycompile.backends.onnx.opset import lower_opset
from hycompile.errors import Unsupported


def parsed(body: str) -> onnx.ModelProto:
    """A graph of ``x`` [2, 6, 4] and the constant ``axes`` = [1] in ONNX's text form, at opset 18."""
    imports = '<ir_version: 8, opset_import: ["" : 18]>'
    return onnx.parser.parse_model(f"{imports} g (float[2,6,4] x) => (float[?] y) <int64[1] axes = {{1}}> {{ {body} }}")


def lowered(body: str) -> onnx.ModelProto:
    """The opset 17 form of a graph, checked."""
    model = ir.from_proto(parsed(body))
    lower_opset(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceL2", "ReduceMax", "ReduceLogSumExp"])
def test_axes_become_an_attribute(kind: str) -> None:
    body = f"y = {kind} <keepdims=0, noop_with_empty_axes=0> (x, axes)"
    proto = lowered(body)
    node = proto.graph.node[-1]
    assert list(node.input) == ["x"]
    assert {attribute.name: list(attribute.ints) for attribute in node.attribute}["axes"] == [1]
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    first, second = (_run(each.SerializeToString(), x) for each in (parsed(body), proto))
    np.testing.assert_array_equal(first, second)


def _run(model: bytes, x: np.ndarray) -> np.ndarray:  # pyright: ignore[reportMissingTypeArgument]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_a_split_into_equal_parts_stays() -> None:
    node = lowered("y, z = Split <axis=1, num_outputs=2> (x)").graph.node[0]
    assert [attribute.name for attribute in node.attribute] == ["axis"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y, b, c, d = Split <axis=1, num_outputs=4> (x)", "size 6 does not split into 4 equal parts"),
        ("y = Mish (x)", "opset 17 has no such operator"),
        ("y = LpPool <kernel_shape=[2]> (x)", "its opset 18 form has no translation to opset 17"),
        ("s = Shape (x) y = ReduceSumSquare (x, s)", "its axes are computed at run time"),
        ("y = ReduceMax <noop_with_empty_axes=1> (x)", "it reduces over no axis"),
        ("s = Shape (x) y = Pad (x, s, , s)", "it names the axes to pad"),
        ("s = Shape (x) y = Resize <antialias=1, mode=\"linear\"> (x, , , s)", "it uses axes or antialiasing"),
        ("s = Shape (x) y = Resize <keep_aspect_ratio_policy=\"not_larger\"> (x, , , s)", "keep_aspect_ratio_policy"),
        ("s = Shape (x) y = ScatterND <reduction=\"max\"> (x, s, x)", "it reduces by 'max'"),
    ],
)  # fmt: skip
def test_what_opset_17_cannot_say_is_refused(body: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason) as caught:
        lowered(body)
    assert "at opset 17" in caught.value.seen
