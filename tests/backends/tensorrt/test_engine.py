"""Engines built ahead of time: what is in the artifact, what is refused, and what is said where none can run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.tensorrt import Tensorrt
from hycompile.backends.tensorrt.engine import build_engine
from hycompile.backends.tensorrt.library import gpu_capability
from hycompile.backends.tensorrt.shapes import ShapeRange, shape_ranges
from hycompile.cache import Cache
from hycompile.capture import capture
from hycompile.errors import Unsupported
from hycompile.lowering import lower
from hycompile.parity import execute, relative_error
from hycompile.program import Program
from hycompile.target import Precision, Target

Build = Callable[..., Artifact]
Make = Callable[..., Program]
Aim = Callable[..., Target]
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@needs_rtx
@pytest.mark.parametrize(("precision", "kind"), [("fp32", "float"), ("fp16", "half")])
def test_an_engine_is_built_ahead_of_time(build: Build, hybrid: Make, precision: Precision, kind: str) -> None:
    artifact = build(hybrid(), precision)
    assert artifact.file("model").name == "model.engine"
    assert artifact.file("model").stat().st_size > 10_000
    model = onnx.load(str(artifact.file("model.onnx")))
    facts = artifact.manifest.facts
    assert facts["compute_capability"] == "8.9"
    assert facts["tf32"] is False
    engine = facts["engines"]["model"]  # type: ignore[index]
    assert engine["layers"] >= len(model.graph.node)
    assert [each["name"] for each in engine["inputs"]] == [value.name for value in model.graph.input]
    assert [each["name"] for each in engine["outputs"]] == [value.name for value in model.graph.output]
    kinds = {each["name"]: each["dtype"] for each in (*engine["inputs"], *engine["outputs"])}
    assert kinds["image"] == "float"
    assert kinds["state.seen"] == kinds["state.seen.out"] == kind
    assert kinds["state.step"] == "int64"
    assert engine["inputs"][0]["shape"] == [-1, 3, 8, 8]
    assert artifact.manifest.tools["tensorrt_rtx"]


@needs_rtx
def test_an_engine_for_a_newer_gpu_is_another_engine(build: Build, hybrid: Make) -> None:
    ada, blackwell = build(hybrid()), build(hybrid(), compute_capability="12.0")
    assert blackwell.manifest.facts["compute_capability"] == "12.0"
    assert ada.file("model").read_bytes() != blackwell.file("model").read_bytes()


@needs_rtx
def test_a_compute_capability_the_library_lacks_is_refused(
    build: Build, hybrid: Make, aim: Aim, tmp_path: Path
) -> None:
    (found,) = Tensorrt().obstacles(hybrid(), aim(compute_capability="8.7"))
    assert "SM89" in found.reason
    with pytest.raises(Unsupported, match=r"compute capability 8\.7.*builds for .*SM89"):
        build(hybrid(), compute_capability="8.7")
    with pytest.raises(Unsupported, match=r"compute capability 8\.7"):
        build_engine(tmp_path / "model.onnx", "tensorrt_rtx", "8.7", "fp32", {})


class Determinant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.det(x)


@needs_rtx
def test_what_the_parser_refuses_is_named(aim: Aim, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"model\.onnx: TensorRT's ONNX parser refuses it \(Det ") as caught:
        lower(capture(Determinant().eval(), (torch.randn(2, 3, 3),)), aim(), "tensorrt", cache=Cache(tmp_path))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("model*")) == []


@needs_rtx
def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a not a model")
    with pytest.raises(Unsupported, match=r"model\.onnx: TensorRT's ONNX parser refuses it"):
        build_engine(path, "tensorrt_rtx", "8.9", "fp32", {})


@needs_rtx
def test_a_network_that_does_not_compile_is_refused(build: Build, hybrid: Make) -> None:
    path = build(hybrid()).file("model.onnx")
    impossible = ShapeRange((4, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8))
    with pytest.raises(Unsupported, match="cannot compile it"):
        build_engine(path, "tensorrt_rtx", "8.9", "fp32", {"image": impossible})


def test_dynamic_sizes_become_ranges(hybrid: Make) -> None:
    ranges = shape_ranges(hybrid().methods["forward"])
    assert ranges == {"image": ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (16, 3, 8, 8))}


@needs_rtx
def test_a_size_without_an_upper_bound_is_refused(build: Build, hybrid: Make, aim: Aim) -> None:
    (found,) = Tensorrt().obstacles(hybrid(largest=None), aim())
    assert found.fatal
    assert "no upper bound" in found.reason
    with pytest.raises(Unsupported, match="no upper bound"):
        build(hybrid(largest=None))


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="tensorrt is installed")
def test_the_other_flavour_says_how_to_get_it(aim: Aim) -> None:
    target = aim(flavour="tensorrt")
    assert Tensorrt().missing(target) == "tensorrt is not installed: pip install 'hycompile[tensorrt]'"
    assert (Tensorrt().cannot_run(target) or "").startswith("built, not run: tensorrt is not installed")


@needs_rtx
@pytest.mark.skipif(gpu_capability() == "8.9", reason="such a GPU is here")
def test_without_the_gpu_it_is_built_not_run(build: Build, hybrid: Make, aim: Aim) -> None:
    assert (Tensorrt().cannot_run(aim()) or "").startswith("built, not run: ")
    with pytest.raises(Unsupported, match=r"built, not run: .*8\.9"):
        Tensorrt().open(build(hybrid()))


@needs_rtx
@pytest.mark.device
@pytest.mark.skipif(gpu_capability() is None, reason="no GPU")
@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_an_engine_computes_the_same_over_several_steps(
    build: Build, hybrid: Make, precision: Precision, allowed: float
) -> None:
    program = hybrid()
    session = Tensorrt().open(build(program, precision, compute_capability=str(gpu_capability())))
    state: dict[str, Tensor] = {}
    for batch in (2, 1, 16):
        image = torch.randn(batch, 3, 8, 8)
        reference = execute(program.methods["forward"], [image], state=state)
        state = reference.state
        assert relative_error(session.run([image]), reference.outputs) < allowed
        found = session.state()
        assert relative_error([found[name] for name in state], list(state.values())) < allowed
