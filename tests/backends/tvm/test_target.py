"""Targets, compilers and versions: what is missing is said before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.tvm import Tvm, backend
from hycompile.backends.tvm.schedule import Machine
from hycompile.backends.tvm.target import llvm_target
from hycompile.backends.tvm.toolchain import find_linker
from hycompile.capture import capture
from hycompile.device import load_target
from hycompile.errors import Unsupported
from hycompile.target import Target, TvmOptions

Build = Callable[..., Artifact]


def with_cpu(target: Target, mcpu: str, *features: str) -> Target:
    return target.model_copy(update={"tvm": TvmOptions(mcpu=mcpu, features=features)})


def test_host_target_names_the_cpu(host: Target) -> None:
    described = llvm_target(host)
    assert described.attrs["mcpu"] not in ("", "host", "generic")
    assert any(str(feature).startswith("+") for feature in described.attrs["mattr"])
    assert int(described.attrs["num-cores"]) == host.tvm.cores


@pytest.mark.parametrize(
    ("mcpu", "features", "machine"),
    [
        ("skylake-avx512", (), Machine(16, 32, 2)),
        ("haswell", (), Machine(8, 16, 2)),
        ("haswell", ("-avx2",), Machine(4, 16, 2)),
        ("x86-64", (), Machine(4, 16, 2)),
    ],
)
def test_vector_units(host: Target, mcpu: str, features: tuple[str, ...], machine: Machine) -> None:
    assert Machine.of(llvm_target(with_cpu(host, mcpu, *features))) == machine


def test_arm_has_thirty_two_short_vectors() -> None:
    machine = Machine.of(llvm_target(load_target("raspberry-pi-5")))
    assert (machine.lanes, machine.registers) == (4, 32)


def test_host_cpu_of_another_machine_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"mcpu 'host': the device is aarch64.*name the device's CPU"):
        llvm_target(with_cpu(load_target("raspberry-pi-5"), "host"))


def test_an_unknown_cpu_is_refused(host: Target, build: Build) -> None:
    with pytest.raises(Unsupported, match="mcpu 'pentium-9000'"):
        llvm_target(with_cpu(host, "pentium-9000"))


def test_the_wrong_ffi_is_named(host: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "version", lambda name: "0.1.15.post2")
    assert Tvm().missing(host) == (
        "apache-tvm-ffi 0.1.15.post2 crashes when TVM saves a module: pip install apache-tvm-ffi==0.1.14.post1"
    )


def test_an_absent_package_is_named(host: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None if name == "tvm" else object())
    assert Tvm().missing(host) == "apache-tvm not installed: pip install apache-tvm"


def test_missing_compilers_are_named(host: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    monkeypatch.delenv("TVM_NDK_CC", raising=False)
    assert Tvm().missing(host) == "no C++ compiler: apt install g++"
    pi = str(Tvm().missing(load_target("raspberry-pi-5")))
    assert pi == "no cross compiler aarch64-linux-gnu-g++: apt install g++-aarch64-linux-gnu"
    assert "set ANDROID_NDK_HOME" in str(Tvm().missing(load_target("pixel-9")))
    assert "on a machine of that system" in str(Tvm().missing(load_target("iphone-16")))


def test_the_ndks_oldest_driver_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "toolchains/llvm/prebuilt/linux-x86_64/bin"
    folder.mkdir(parents=True)
    for level in (35, 21, 24):
        (folder / f"aarch64-linux-android{level}-clang++").touch(mode=0o755)
    (folder / "x86_64-linux-android21-clang++").touch(mode=0o755)
    monkeypatch.delenv("TVM_NDK_CC", raising=False)
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    assert find_linker(load_target("pixel-9")) == str(folder / "aarch64-linux-android21-clang++")
    assert Tvm().missing(load_target("pixel-9")) is None


def test_a_failing_linker_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Android's code path runs up to the driver, which here refuses."""
    driver, folder = tmp_path / "clang++", tmp_path / "out"
    driver.write_text("#!/bin/sh\necho no sysroot\nexit 1\n")
    driver.chmod(0o755)
    folder.mkdir()
    monkeypatch.setenv("TVM_NDK_CC", str(driver))
    program = capture(nn.Linear(4, 4).eval(), (torch.randn(1, 4),), name="linear")
    with pytest.raises(Unsupported, match=r"clang\+\+'?: fails"):
        Tvm().lower(program, load_target("pixel-9"), folder)
    assert list(folder.iterdir()) == []


class Spectral(nn.Module):
    """Its transform has no translation."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).abs() + torch.fft.rfft(2 * x).abs()


def test_obstacles_name_operator_and_line(host: Target, build: Build) -> None:
    program = capture(Spectral().eval(), (torch.randn(2, 8),), name="spectral")
    found = {obstacle.operator: obstacle for obstacle in Tvm().obstacles(program, host)}
    transform = next(obstacle for name, obstacle in found.items() if "fft" in name)
    assert transform.count == 2
    assert transform.fatal
    assert "test_target.py:" in transform.where
    with pytest.raises(Unsupported, match="fft"):
        build(program)
