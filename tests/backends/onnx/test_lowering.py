"""The toy hybrid through the exporter: numbers, structure and names, at both precisions and several opsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.artifact import Artifact
from hycompile.backends.onnx import Onnx, translate
from hycompile.backends.onnx.legalise import attention_to_rank_four
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.errors import Unsupported
from hycompile.lowering import lower
from hycompile.parity import execute, relative_error
from hycompile.program import Program
from hycompile.target import Target

Build = Callable[..., Artifact]
Make = Callable[..., Program]
EXACT = 1e-5  # float32 rounding of a three-layer network, relative to the output's scale
HALF = 5e-3  # float16 keeps 11 bits


def error(artifact: Artifact, program: Program, inputs: Sequence[Tensor] | None = None) -> float:
    """Relative error of an artifact's ``forward`` against the program it was made from."""
    inputs = program.methods["forward"].flat_inputs() if inputs is None else inputs
    reference = execute(program.methods["forward"], inputs).outputs
    return relative_error(Onnx().open(artifact, threads=1).run(inputs), reference)


def test_a_hybrid_computes_the_same_and_is_clean(build: Build, hybrid: Make) -> None:
    program = hybrid()
    artifact = build(program)
    model = onnx.load(str(artifact.file("model")))
    assert error(artifact, program) < EXACT
    operators = artifact.manifest.facts["operators"]
    assert isinstance(operators, dict)
    assert operators["Conv"] == 1
    assert operators["Softmax"] == 1
    assert "BatchNormalization" not in operators
    assert artifact.manifest.facts["rewrites"]["FuseBatchNormIntoConv"] == 1  # type: ignore[index]
    assert artifact.manifest.facts["nodes"] == len(model.graph.node)
    assert {each.version for each in model.opset_import} == {18}
    spec = artifact.manifest.methods["forward"]
    assert [value.name for value in model.graph.input] == [tensor.name for tensor in spec.inputs]
    assert [value.name for value in model.graph.output] == [tensor.name for tensor in spec.outputs]
    assert b"conftest.py" not in artifact.file("model").read_bytes()


def test_half_precision_stays_inside(build: Build, hybrid: Make) -> None:
    program = hybrid()
    artifact = build(program, precision="fp16")
    model = onnx.load(str(artifact.file("model")))
    kinds = {weight.data_type for weight in model.graph.initializer if weight.name.endswith(("weight", "bias"))}
    assert kinds == {onnx.TensorProto.FLOAT16}
    edges = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert set(edges) == {onnx.TensorProto.FLOAT}
    assert artifact.manifest.facts["precision"] == "fp16"
    assert 1e-6 < error(artifact, program) < HALF


def test_a_dynamic_batch_stays_dynamic(build: Build, hybrid: Make) -> None:
    program = hybrid(dynamic=True)
    artifact = build(program)
    (value,) = onnx.load(str(artifact.file("model"))).graph.input
    first = value.type.tensor_type.shape.dim[0]
    assert first.dim_param == program.methods["forward"].spec().inputs[0].shape[0]
    for batch in (1, 5, 16):
        assert error(artifact, program, [torch.randn(batch, 3, 16, 16)]) < EXACT


def test_opset_17(build: Build, hybrid: Make) -> None:
    program = hybrid()
    artifact = build(program, opset=17)
    model = onnx.load(str(artifact.file("model")))
    assert {each.version for each in model.opset_import} == {17}
    (mean,) = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    assert len(mean.input) == 1
    assert {attribute.name: list(attribute.ints) for attribute in mean.attribute}["axes"] == [1]
    assert error(artifact, program) < EXACT


def test_an_opset_nobody_has_is_refused(build: Build, hybrid: Make) -> None:
    with pytest.raises(Unsupported, match="opset 99: onnx knows opsets up to"):
        build(hybrid(), opset=99)


def test_weights_beyond_one_message_go_beside_the_model(
    hybrid: Make, host: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translate, "INLINE_LIMIT_BYTES", 1000)
    program = hybrid()
    artifact = lower(program, host, "onnx", cache=Cache(tmp_path))
    assert artifact.file("model.data").stat().st_size > 1000
    assert error(artifact, program) < EXACT


class Attend(nn.Module):
    """Attention over whatever rank it is given."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, scale=0.5)


_BATCH = torch.export.Dim("batch", min=1, max=8)


@pytest.mark.parametrize(
    ("batch", "mask", "dynamic"),
    [
        ((2, 3, 4), None, True),
        ((2, 3, 2, 2), (3, 1, 2, 5, 6), False),
        ((2,), (2, 5, 6), False),
    ],
)
def test_attention_of_any_rank(
    build: Build, batch: tuple[int, ...], mask: tuple[int, ...] | None, dynamic: bool
) -> None:
    torch.manual_seed(0)
    args = [torch.randn(*batch, 5, 8), torch.randn(*batch, 6, 8), torch.randn(*batch, 6, 4)]
    args += [torch.randn(*mask)] if mask is not None else []
    program = capture(Attend().eval(), tuple(args), dynamic_shapes=({0: _BATCH},) * 3 if dynamic else None)
    artifact = build(program)
    assert artifact.manifest.facts["legalised"] == {"attention_to_rank_four": 1}
    inputs = [torch.randn(5, *value.shape[1:]) for value in args] if dynamic else args
    assert error(artifact, program, inputs) < EXACT


def test_attention_of_rank_four_is_left_alone(hybrid: Make) -> None:
    method = hybrid().methods["forward"].copy()
    before = method.graph.code
    assert attention_to_rank_four(method.graph) == 0
    assert method.graph.code == before


class Passing(nn.Module):
    """Returns an input, a constant, and one value twice."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("constant", torch.ones(2))

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = x * 2
        return {"input": x, "constant": self.constant, "twice": [y, y]}


def test_outputs_that_are_no_results(build: Build) -> None:
    program = capture(Passing().eval(), (torch.randn(2),))
    artifact = build(program)
    assert error(artifact, program) == 0
    names = [value.name for value in onnx.load(str(artifact.file("model"))).graph.output]
    assert len(set(names)) == len(names) == 4
