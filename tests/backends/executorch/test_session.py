"""Sessions: bad files, bad inputs, threads, profiles, silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.native import runtime
from hycompile.capture import capture
from hycompile.errors import ArtifactError
from hycompile.parity import relative_error
from hycompile.program import Program

Build = Callable[..., Artifact]


class ComplexScale(nn.Module):
    """Has kernels for every operator, but none of them for this mixture of types."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * 2)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "File size is too small"),
        (lambda content: content[:100], "File size is too small"),
        (lambda content: b"", "file_size"),
        (lambda content: b"not a program at all" * 40, "Program identifier"),
        (None, "No such file"),
    ],
    ids=["half", "head", "empty", "garbage", "gone"],
)
def test_damaged_file_is_one_clear_error(
    hybrid_artifact: Artifact,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes] | None,
    reason: str,
) -> None:
    path = tmp_path / "model.pte"
    if damage is not None:
        path.write_bytes(damage(hybrid_artifact.file("model").read_bytes()))
    with pytest.raises(ArtifactError, match=reason) as error:
        Executorch().open(Artifact(tmp_path, hybrid_artifact.manifest))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_inputs_that_do_not_fit_are_named(hybrid_artifact: Artifact) -> None:
    session = Executorch().open(hybrid_artifact)
    with pytest.raises(ArtifactError, match=r"float32\[1, 3, 8, 8\]: does not fit; give image: float32\[1, 3"):
        session.run([torch.zeros(1, 3, 8, 8)])
    with pytest.raises(ArtifactError, match=r"'image', int64\[1, 3, 16, 16\]: does not fit"):
        session.run([torch.zeros(1, 3, 16, 16, dtype=torch.int64)])
    with pytest.raises(ArtifactError, match="2 inputs for method 'forward': it takes 1"):
        session.run([torch.zeros(1, 3, 16, 16)] * 2)
    with pytest.raises(ArtifactError, match="no such method; it has"):
        session.run([], "decode")


def test_any_layout_and_floating_type_is_taken(hybrid: nn.Module, hybrid_artifact: Artifact) -> None:
    image = torch.randn(1, 3, 16, 16, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert relative_error(Executorch().open(hybrid_artifact).run([image]), [hybrid(image.float())]) < 1e-5


def test_failing_kernel_is_one_clear_error(build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    session = Executorch().open(build(capture(ComplexScale().eval(), (torch.randn(4, 8),))))
    with pytest.raises(ArtifactError, match=r"method .forward. of .* failed") as error:
        session.run([torch.randn(4, 8)])
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_threads(hybrid_artifact: Artifact) -> None:
    Executorch().open(hybrid_artifact, threads=1)
    assert runtime()._threadpool_get_thread_count() == 1
    Executorch().open(hybrid_artifact, threads=2)
    assert runtime()._threadpool_get_thread_count() == 2
    Executorch().open(hybrid_artifact, threads=1)


def test_profile_names_operators_on_both_sides(falls_out_program: Program, falls_out_artifact: Artifact) -> None:
    times = Executorch().open(falls_out_artifact).profile(falls_out_program.methods["forward"].flat_inputs(), runs=3)
    assert times is not None
    calls = {time.operator: time.calls for time in times}
    assert calls["cumsum.out"] == 1
    assert calls["logical_not.out"] == 2
    assert any(name.startswith("Fully Connected (NC, F32)") for name in calls)
    assert not any("#" in name or "CALL" in name for name in calls)
    assert [time.ms for time in times] == sorted((time.ms for time in times), reverse=True)
    assert times[0].ms > 0


def test_profile_leaves_the_state_alone(memory_program: Program, build: Build) -> None:
    session = Executorch().open(build(memory_program))
    session.run([torch.ones(2, 4)])
    before = session.state()
    assert session.profile([torch.ones(2, 4)], runs=2)
    after = session.state()
    assert before is not None
    assert after is not None
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_reaches_terminal_or_logging(
    hybrid_program: Program, build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, list(root.filters))
    session = Executorch().open(build(hybrid_program))
    session.run(hybrid_program.methods["forward"].flat_inputs())
    session.profile(hybrid_program.methods["forward"].flat_inputs(), runs=1)
    assert capfd.readouterr() == ("", "")
    assert (list(root.handlers), root.level, list(root.filters)) == before
