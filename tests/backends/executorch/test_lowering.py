"""Lowering: the numbers, the account of what is delegated, precisions, dynamic sizes, other delegates, refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.capture import capture
from hycompile.errors import Unsupported
from hycompile.parity import execute, relative_error
from hycompile.program import Program
from hycompile.target import CoremlOptions, ExecutorchOptions, Target

Build = Callable[..., Artifact]
MakeTarget = Callable[..., Target]


class Decomposition(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svd(x + 1)[1]


def test_hybrid_matches_eager(hybrid_program: Program, hybrid_artifact: Artifact) -> None:
    method = hybrid_program.methods["forward"]
    session = Executorch().open(hybrid_artifact)
    for scale in (1.0, -3.0):
        inputs = [scale * value for value in method.flat_inputs()]
        assert relative_error(session.run(inputs), execute(method, inputs).outputs) < 1e-5


def test_hybrid_is_delegated_whole(hybrid_artifact: Artifact) -> None:
    facts = hybrid_artifact.manifest.facts
    assert (facts["delegates"], facts["delegated_share"], facts["outside"]) == (1, 1.0, {})


def test_facts_tell_what_falls_out_and_why(falls_out_artifact: Artifact) -> None:
    facts = falls_out_artifact.manifest.facts
    outside = cast("dict[str, int]", facts["outside"])
    reasons = cast("list[dict[str, Any]]", facts["reasons"])
    assert cast("int", facts["delegates"]) > 1
    assert 0.1 < cast("float", facts["delegated_share"]) < 0.9
    assert outside["cumsum"] == 1
    assert outside["logical_not"] == 2
    by_operator = {item["operator"]: item for item in reasons}
    assert "scaled_dot_product_attention" in by_operator["logical_not"]["reason"]
    assert by_operator["mean.dim"]["reason"] == "mean.dim only supports averaging 4D tensors, got tensor of rank 3"
    assert by_operator["mean.dim"]["where"].startswith("conftest.py:")
    assert sum(item["count"] for item in reasons) == sum(outside.values())


def test_artifact_names_its_tools(hybrid_artifact: Artifact) -> None:
    assert set(hybrid_artifact.manifest.tools) == {"torch", "executorch"}
    assert hybrid_artifact.file("model").read_bytes()[4:8] == b"ET12"


def test_fp16_runs_and_is_cast_at_the_edge(hybrid_program: Program, build: Build) -> None:
    artifact = build(hybrid_program, precision="fp16")
    method = hybrid_program.methods["forward"]
    (output,) = Executorch().open(artifact).run(method.flat_inputs())
    assert output.dtype == torch.float32
    error = relative_error([output], execute(method).outputs)
    assert 1e-6 < error < 2e-2
    assert "float16" in cast("str", artifact.manifest.facts["casts"])


def test_fp16_file_is_half_the_size(build: Build) -> None:
    program = capture(nn.Linear(256, 256).eval(), (torch.randn(1, 256),))
    assert build(program, precision="fp16").size_bytes < 0.6 * build(program).size_bytes


def test_dynamic_batch(hybrid: nn.Module, build: Build) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    program = capture(hybrid, (torch.randn(2, 3, 16, 16),), dynamic_shapes=({0: batch},))
    session = Executorch().open(build(program))
    for size in (2, 1, 8, 5):
        image = torch.randn(size, 3, 16, 16)
        assert relative_error(session.run([image]), [hybrid(image)]) < 1e-5


def test_unbounded_size_is_refused(hybrid: nn.Module, build: Build, target: MakeTarget) -> None:
    program = capture(hybrid, (torch.randn(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    (obstacle,) = Executorch().obstacles(program, target())
    assert obstacle.fatal
    assert "max=" in obstacle.way_out
    with pytest.raises(Unsupported, match="plans memory for the largest size"):
        build(program)


def test_operator_without_kernel_is_refused_with_its_line(build: Build, target: MakeTarget) -> None:
    program = capture(Decomposition().eval(), (torch.randn(4, 4),))
    fatal = [obstacle for obstacle in Executorch().obstacles(program, target()) if obstacle.fatal]
    assert [(obstacle.operator, obstacle.count) for obstacle in fatal] == [("_linalg_svd", 1)]
    assert fatal[0].where.startswith("test_lowering.py:")
    with pytest.raises(Unsupported, match=r"_linalg_svd \(test_lowering.py:\d+ in forward\): .* no kernel") as refusal:
        build(program)
    assert "\n" not in str(refusal.value)


def test_obstacles_foresee_what_falls_out(
    falls_out_program: Program, falls_out_artifact: Artifact, target: MakeTarget
) -> None:
    obstacles = Executorch().obstacles(falls_out_program, target())
    assert not any(obstacle.fatal for obstacle in obstacles)
    foreseen: dict[str, int] = {}
    for obstacle in obstacles:
        foreseen[obstacle.operator] = foreseen.get(obstacle.operator, 0) + obstacle.count
    assert foreseen == falls_out_artifact.manifest.facts["outside"]


@pytest.mark.parametrize(("partitioners", "runs_on"), [(("coreml",), "macOS"), (("vulkan", "xnnpack"), "Vulkan")])
def test_other_delegates_are_built_not_run(
    build: Build, target: MakeTarget, partitioners: tuple[str, ...], runs_on: str
) -> None:
    options = ExecutorchOptions.model_validate({"partitioners": partitioners})
    reason = Executorch().cannot_run(target(executorch=options))
    assert reason is not None
    assert reason.startswith("built, not run: ")
    assert runs_on in reason
    program = capture(nn.Sequential(nn.Linear(8, 8), nn.GELU()).eval(), (torch.randn(2, 8),))
    artifact = build(program, executorch=options)
    delegate = {"coreml": b"CoreMLBackend", "vulkan": b"VulkanBackend"}[partitioners[0]]
    assert delegate in artifact.file("model").read_bytes()
    assert cast("float", artifact.manifest.facts["delegated_share"]) > 0.8
    with pytest.raises(Unsupported, match=runs_on):
        Executorch().open(artifact)


def test_unknown_partitioner_cannot_be() -> None:
    with pytest.raises(ValidationError, match="xnnpack"):
        ExecutorchOptions.model_validate({"partitioners": ["qnn"]})


def test_unknown_coreml_system_is_refused(hybrid_program: Program, target: MakeTarget) -> None:
    options = ExecutorchOptions(partitioners=("coreml",))
    with pytest.raises(Unsupported, match=r"deployment_target 'iOS99': .* one of .*iOS18"):
        Executorch().obstacles(
            hybrid_program, target(executorch=options, coreml=CoremlOptions(deployment_target="iOS99"))
        )


def test_nothing_is_missing_here(target: MakeTarget) -> None:
    assert Executorch().missing(target()) is None
    assert Executorch().cannot_run(target()) is None


def test_import_is_cheap() -> None:
    code = (
        "import sys, hycompile.backends.executorch\n"
        "print([name for name in ('torch', 'executorch', 'coremltools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
