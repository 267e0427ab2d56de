"""Opening damaged or foreign libraries, wrong calls, and time per operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hycompile.artifact import Artifact
from hycompile.backends.tvm import Tvm
from hycompile.backends.tvm.profile import kind_of
from hycompile.device import load_target
from hycompile.errors import ArtifactError

Copy = Callable[[Artifact], Artifact]
IMAGE = torch.randn(1, 3, 28, 28)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:5000], "truncated"),
        (lambda data: data[:-1000], "truncated"),
        (lambda data: data[:20], "not a 64-bit ELF library"),
        (lambda data: b"MZ" + data[2:], "not a 64-bit ELF library"),
        (lambda data: data[:18] + b"\xb7\x00" + data[20:], "TVM cannot load it"),
    ],
    ids=["head", "tail", "header", "format", "machine"],
)
def test_a_damaged_library_is_refused(
    artifact: Artifact, own_copy: Copy, damage: Callable[[bytes], bytes], reason: str
) -> None:
    copy = own_copy(artifact)
    path = copy.file("model")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=reason) as caught:
        Tvm().open(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("role", ["weights", "interface"])
def test_damaged_companions_are_refused(artifact: Artifact, own_copy: Copy, role: str) -> None:
    copy = own_copy(artifact)
    path = copy.file(role)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match=f"{path.name}: cannot be read"):
        Tvm().open(copy)


def test_wrong_calls_say_what_is_right(artifact: Artifact) -> None:
    session = Tvm().open(artifact)
    with pytest.raises(ArtifactError, match="method 'decode': not in the library; it has forward"):
        session.run([IMAGE], "decode")
    with pytest.raises(ArtifactError, match="2 inputs: method 'forward' takes 1"):
        session.run([IMAGE, IMAGE])
    with pytest.raises(ArtifactError, match="the library refuses the inputs"):
        session.run([torch.randn(1, 3, 28, 29)])
    with pytest.raises(ArtifactError, match="the library refuses the inputs"):
        session.run([IMAGE.long()])


def test_strided_and_misaligned_inputs_are_taken(artifact: Artifact) -> None:
    session = Tvm().open(artifact, threads=1)
    (expected,) = session.run([IMAGE])
    strided = IMAGE.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    shifted = torch.cat([torch.zeros(1), IMAGE.flatten()])[1:].reshape(IMAGE.shape)
    assert shifted.data_ptr() % 64
    for image in (strided, shifted, IMAGE.double()):
        assert torch.equal(session.run([image])[0], expected)


def test_profile_is_per_operator_slowest_first(artifact: Artifact) -> None:
    times = Tvm().open(artifact, threads=1).profile([IMAGE], runs=3)
    kinds = {time.operator: time for time in times}
    assert kinds["softmax"].calls == 1
    assert sum(time.calls for kind, time in kinds.items() if kind.startswith("conv2d")) == 3
    assert [time.ms for time in times] == sorted((time.ms for time in times), reverse=True)
    assert kinds["softmax"].ms > 0


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("fused_conv2d7_add6_silu4", "conv2d+add+silu"),
        ("layer_norm2", "layer+norm"),
        ("vm.builtin.alloc_tensor", "vm.builtin.alloc_tensor"),
    ],
)
def test_kinds_forget_numbers(function: str, kind: str) -> None:
    assert kind_of(function) == kind


def test_a_library_for_another_processor_is_not_opened(artifact: Artifact) -> None:
    pi = load_target("raspberry-pi-5")
    assert Tvm().cannot_run(pi) == "built, not run: aarch64 library on x86_64"
    foreign = Artifact(Path(artifact.folder), artifact.manifest.model_copy(update={"target": pi}))
    with pytest.raises(ArtifactError, match="built, not run: aarch64 library on x86_64; run it on raspberry-pi-5"):
        Tvm().open(foreign)
