"""Loading, wrong calls, and time per operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hycompile.artifact import Artifact
from hycompile.backends.onnx import Onnx
from hycompile.errors import ArtifactError
from hycompile.program import Program

Build = Callable[..., Artifact]
Copy = Callable[[Artifact], Artifact]


@pytest.fixture
def artifact(build: Build, hybrid: Callable[..., Program]) -> Artifact:
    return build(hybrid())


def test_a_truncated_model_is_refused(artifact: Artifact, own_copy: Copy) -> None:
    artifact = own_copy(artifact)
    path = artifact.file("model")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        Onnx().open(artifact)


def test_truncated_state_is_refused(
    build: Build, recurrent: Callable[..., tuple[object, Program]], own_copy: Copy
) -> None:
    artifact = own_copy(build(recurrent()[1]))
    path = artifact.file("state")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match=r"state\.safetensors: cannot be read"):
        Onnx().open(artifact)


def test_wrong_calls_say_what_is_right(artifact: Artifact) -> None:
    session = Onnx().open(artifact)
    image = torch.randn(2, 3, 16, 16)
    with pytest.raises(ArtifactError, match="method 'decode': the artifact has no such method; it has forward"):
        session.run([image], "decode")
    with pytest.raises(ArtifactError, match="2 inputs: method 'forward' takes 1"):
        session.run([image, image])
    with pytest.raises(ArtifactError, match=r"cannot run it .*Expected: 3"):
        session.run([torch.randn(2, 4, 16, 16)])


def test_profile_is_per_operator_slowest_first(artifact: Artifact) -> None:
    times = Onnx().open(artifact, threads=1).profile([torch.randn(2, 3, 16, 16)], runs=3)
    kinds = {time.operator: time for time in times}
    assert any("Conv" in kind for kind in kinds)
    assert kinds["Softmax"].calls == 1
    assert all(time.ms >= 0 for time in times)
    assert [time.ms for time in times] == sorted((time.ms for time in times), reverse=True)
    assert sum(time.ms for time in times) > 0


def test_a_session_leaves_no_files(artifact: Artifact) -> None:
    before = sorted(artifact.folder.iterdir())
    Onnx().open(artifact).profile([torch.randn(2, 3, 16, 16)], runs=1)
    assert sorted(artifact.folder.iterdir()) == before
