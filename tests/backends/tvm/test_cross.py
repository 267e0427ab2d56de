"""The library for 64-bit ARM: built with the cross compiler, run by ``runner.cpp`` on an emulated processor."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hycompile.artifact import Artifact
from hycompile.backends.tvm import Tvm
from hycompile.backends.tvm.interface import Interface
from hycompile.device import load_target
from hycompile.parity import execute, relative_error
from hycompile.program import Program

Build = Callable[..., Artifact]
pytestmark = pytest.mark.slow
EMULATOR, COMPILER, SYSROOT = "qemu-aarch64-static", "aarch64-linux-gnu-g++", Path("/usr/aarch64-linux-gnu")
WHEELS = ("apache-tvm", "apache-tvm-ffi")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with TVM's runtime libraries for 64-bit ARM, from the wheels of the installed versions."""
    for tool in (EMULATOR, COMPILER):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("runtime")
    for name in WHEELS:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        command += ["--platform", "manylinux_2_28_aarch64", "--dest", str(folder), f"{name}=={version(name)}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no ARM wheel of {name} {version(name)}: {done.stderr.strip().splitlines()[-1]}")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in ("tvm/lib/libtvm_runtime.so", "tvm_ffi/lib/libtvm_ffi.so"):
                if name in archive.namelist():
                    (folder / Path(name).name).write_bytes(archive.read(name))
    return folder


@pytest.fixture(scope="module")
def runner(runtime: Path) -> Path:
    """``runner.cpp`` compiled against the headers of the installed packages."""
    import tvm
    import tvm_ffi

    binary = runtime / "runner"
    includes = [f"-I{Path(str(package.__file__)).parent / 'include'}" for package in (tvm, tvm_ffi)]
    command = [COMPILER, "-std=c++17", "-O1", *includes, str(Path(__file__).parent / "runner.cpp"), "-o", str(binary)]
    command += [f"-L{runtime}", "-ltvm_ffi", "-ldl", "-Wl,--allow-shlib-undefined"]
    subprocess.run(command, check=True)
    return binary


def emulate(runner: Path, artifact: Artifact, method: str, inputs: tuple[Tensor, ...], folder: Path) -> list[Any]:
    """Raw outputs of one call, as float32 arrays."""
    interface = Interface.model_validate_json(artifact.file("interface").read_text()).methods[method]
    weights = load_file(artifact.file("weights"))
    arguments = [*inputs, *(weights[name] for name in interface.weights)]
    lines = [f"{value.dtype} {value.dim()} {' '.join(map(str, value.shape))}\n" for value in arguments]
    (folder / "arguments.txt").write_text("".join(lines).replace("torch.", ""))
    for index, value in enumerate(arguments):
        (folder / f"argument_{index}.bin").write_bytes(value.contiguous().numpy().tobytes())
    command = [EMULATOR, "-L", str(SYSROOT), "-E", f"LD_LIBRARY_PATH={runner.parent}", str(runner)]
    command += [str(artifact.file("model")), method, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [np.fromfile(folder / f"output_{index}.bin", dtype="float32") for index in range(interface.outputs)]


def test_arm_library_computes_what_the_host_library_does(
    build: Build, artifact: Artifact, hybrid: Callable[..., Program], runner: Path, tmp_path: Path
) -> None:
    program = hybrid()
    pi = load_target("raspberry-pi-5")
    arm = build(program, target=pi)
    assert arm.file("model").read_bytes()[18:20] == b"\xb7\x00", "not an AArch64 library"
    assert arm.manifest.facts["triple"] == pi.triple
    image = torch.randn(1, 3, 28, 28)
    (raw,) = emulate(runner, arm, "forward", (image,), tmp_path)
    (here,) = Tvm().open(artifact, threads=1).run([image])
    there = torch.from_numpy(raw).reshape(here.shape)
    # Logits straight from a linear layer: nothing is saturated, and they differ from class to class.
    assert float(here.std()) > 0.05
    assert relative_error([there], [here]) < 1e-4
    assert relative_error([there], execute(program.methods["forward"], (image,)).outputs) < 1e-4
