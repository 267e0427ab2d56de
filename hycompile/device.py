"""Devices: their files, found by name and validated, and the ways to run an artifact on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hycompile.errors import DeviceError, Unsupported
from hycompile.settings_file import did_you_mean, read_settings

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.artifact import Artifact
    from hycompile.backend import Session
    from hycompile.measure.latency import Latency
    from hycompile.measure.sampling import Plan
    from hycompile.target import Precision, Target

HOST = "host"


def folders() -> tuple[Path, ...]:
    """Where device files are looked for, the user's own first: a file there replaces a built-in of the same name."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "hycompile" / "devices", Path(__file__).parent / "devices"


def known() -> dict[str, Path]:
    """Every device file by name, sorted by name."""
    found: dict[str, Path] = {}
    for folder in reversed(folders()):
        found.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return dict(sorted(found.items()))


def load_target(device: str) -> Target:
    """The Target of a device: its name, or a path to a ``.toml`` file.

    Raises:
        DeviceError: no such device or file, a file that is not TOML, a key or value it may not have.
    """
    if device.endswith(".toml"):
        return _parse(Path(device))
    table = known()
    if device not in table:
        way_out = f"{did_you_mean(device, table)}known: {', '.join(table)}, or a path to a .toml file"
        raise DeviceError(f"device {device!r}", "no such device", way_out)
    return _parse(table[device])


def choose_target(device: str | Target, precision: Precision | None = None, pipeline: str | None = None) -> Target:
    """A device's target, with precision and pipeline replaced where given."""
    target = load_target(device) if isinstance(device, str) else device
    changes = {name: value for name, value in (("precision", precision), ("pipeline", pipeline)) if value is not None}
    return target.model_copy(update=changes)


def _parse(path: Path) -> Target:
    from hycompile.target import Target

    target = read_settings(path, Target, "device file", "`hycompile devices show host` shows a complete one")
    _check_runtimes(path, target)
    return target


def _check_runtimes(path: Path, target: Target) -> None:
    from hycompile import registry

    registered = registry.names("backends")
    for runtime in target.runtimes:
        if runtime not in registered:
            way_out = f"{did_you_mean(runtime, registered)}known: {', '.join(registered)}"
            raise DeviceError(f"device file {path}, key 'runtimes' = {runtime!r}", "no such runtime", way_out)


class Device(Protocol):
    """Somewhere artifacts run."""

    name: str

    def run(self, artifact: Artifact, inputs: Sequence[Tensor], method: str) -> tuple[Tensor, ...]:
        """Flat outputs of one method on flat inputs."""
        ...

    def latency(self, artifact: Artifact, inputs: Sequence[Tensor] | None, method: str, plan: Plan) -> Latency:
        """Latency of one method; random inputs if None."""
        ...


class HostDevice:
    """The machine this process runs on."""

    name = HOST

    def run(self, artifact: Artifact, inputs: Sequence[Tensor], method: str) -> tuple[Tensor, ...]:
        """Load the artifact and execute one method once.

        Raises:
            Unsupported: the artifact cannot run here.
        """
        return open_session(artifact).run(inputs, method)

    def latency(self, artifact: Artifact, inputs: Sequence[Tensor] | None, method: str, plan: Plan) -> Latency:
        """Measure in this process; see ``hycompile.measure.latency.measure``."""
        from hycompile.measure.latency import measure_on_host

        return measure_on_host(artifact, inputs, method, plan)


def open_session(artifact: Artifact, threads: int | None = None) -> Session:
    """Load an artifact for execution in this process.

    Raises:
        Unsupported: its runtime is not installed, or it was built for another machine.
    """
    from hycompile import registry

    backend = registry.backend(artifact.backend)
    what = f"{artifact.backend} artifact for {artifact.target.name}"
    absent = backend.missing(artifact.target)
    if absent is not None:
        raise Unsupported(what, f"built, not run: {absent}", "install it, or run on a machine that has it")
    elsewhere = backend.cannot_run(artifact.target)
    if elsewhere is not None:
        reason = elsewhere.removeprefix("built, not run:").strip()
        raise Unsupported(what, f"built, not run: {reason}", "run it on the device itself")
    return backend.open(artifact, threads)


def open_device(name: str) -> Device:
    """A device to run artifacts on.

    Raises:
        DeviceError: no such device.
        Unsupported: there is no way to reach it from here.
    """
    if name == HOST:
        return HostDevice()
    load_target(name)
    raise Unsupported(
        f"device {name!r}", "built, not run: no transport reaches it from here", "measure with --device host"
    )
