"""Device files: every built-in one is valid and sourced, and a wrong one is explained in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hycompile import registry
from hycompile.device import HostDevice, known, load_target, open_device
from hycompile.errors import DeviceError, Unsupported

NAMES = [
    "galaxy-s25",
    "host",
    "iphone-16",
    "jetson-orin-nano",
    "macbook-m4",
    "pixel-9",
    "raspberry-pi-5",
    "rtx-4090",
    "rtx-5090",
]
MINIMAL = """
name = "mine"
description = "a board"
runtimes = ["onnx"]
triple = "aarch64-linux-gnu"
os = { name = "linux", floor = "5.10" }
sources = [{ fact = "it exists", reference = "I own one" }]
"""


@pytest.fixture(autouse=True)
def no_user_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder is an empty one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "hycompile" / "devices"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_promised_devices_are_there() -> None:
    assert list(known()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_built_in_device(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert set(target.runtimes) <= set(registry.names("backends"))
    assert all(source.fact and len(source.reference) > 10 for source in target.sources)


@pytest.mark.parametrize(
    ("name", "capability", "flavour"),
    [
        ("jetson-orin-nano", "8.7", "tensorrt"),
        ("rtx-4090", "8.9", "tensorrt_rtx"),
        ("rtx-5090", "12.0", "tensorrt_rtx"),
    ],
)
def test_gpu_devices_name_their_compute_capability(name: str, capability: str, flavour: str) -> None:
    options = load_target(name).tensorrt
    assert (options.compute_capability, options.flavour) == (capability, flavour)


def test_host_builds_for_every_runtime_executorch_first() -> None:
    runtimes = load_target("host").runtimes
    assert runtimes[0] == "executorch"
    assert set(runtimes) == {"executorch", "onnx", "coreml", "tvm", "tensorrt"}


def test_path_to_a_file(tmp_path: Path) -> None:
    assert load_target(write(tmp_path, MINIMAL)).name == "mine"


def test_user_folder_adds_and_replaces(no_user_devices: Path) -> None:
    write(no_user_devices, MINIMAL)
    (no_user_devices / "host.toml").write_text(MINIMAL.replace('"mine"', '"host"'))
    assert load_target("mine").description == "a board"
    assert load_target("host").description == "a board"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (MINIMAL.replace("description", "descripton"), ["'descripton'", "no such key", "did you mean 'description'?"]),
        (MINIMAL + '[tvm]\nmpcu = "cortex-a76"', ["'tvm.mpcu'", "did you mean 'mcpu'?"]),
        (MINIMAL.replace("reference", "refrence"), ["'sources.0.refrence'", "did you mean 'reference'?"]),
        (MINIMAL.replace('["onnx"]', '["onx"]'), ["'runtimes' = 'onx'", "did you mean 'onnx'?"]),
        (MINIMAL + "[tvm]\ncores = 0", ["'tvm.cores' = 0", "greater than or equal to 1"]),
        (MINIMAL + 'precision = "fp8"', ["'fp8'", "'fp32', 'fp16' or 'int8'"]),
        (MINIMAL.replace('triple = "aarch64-linux-gnu"', ""), ["'triple'", "missing"]),
        (MINIMAL + "[tvm", ["cannot be read"]),
    ],
)
def test_a_wrong_file_is_explained_in_one_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DeviceError) as caught:
        load_target(path)
    message = str(caught.value)
    assert path in message
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_unknown_device_names_a_close_match() -> None:
    with pytest.raises(DeviceError, match=r"no such device; did you mean 'pixel-9'\?"):
        load_target("pixel9")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no such file"):
        load_target(str(tmp_path / "nowhere.toml"))


def test_only_the_host_is_reachable() -> None:
    assert isinstance(open_device("host"), HostDevice)
    with pytest.raises(Unsupported, match="built, not run"):
        open_device("pixel-9")
    with pytest.raises(DeviceError):
        open_device("pixel-99")
