"""The ``tvm`` backend: Relax, a deterministic schedule, one shared library for the device's CPU."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hycompile.backend import Lowered, Obstacle
from hycompile.errors import ArtifactError, Unsupported
from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backends.tvm.session import TvmSession
    from hycompile.program import Program

_PACKAGES = ("torch", "tvm", "tvm_ffi")
_DISTRIBUTIONS = ("torch", "apache-tvm", "apache-tvm-ffi")
_FFI = "0.1.14"


class Tvm:
    """Compiles all methods into one library over shared weights.

    Files: ``model.so`` (role ``model``), ``weights.safetensors`` (role ``weights``), ``interface.json`` (role
    ``interface``: the order of state and weights in each function) and, for a program that writes state,
    ``state.safetensors`` (role ``state``). Each function is called as ``method(*inputs, *state, *weights)`` and returns
    its outputs followed by the next state. A half-precision library takes float16 inputs.
    """

    name: ClassVar[str] = "tvm"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")

    def missing(self, target: Target) -> str | None:
        """None when TVM, the one version of its ffi that works, and a linker for the device are here."""
        from hycompile.backends.tvm.toolchain import missing_linker

        absent = [name for name, package in zip(_DISTRIBUTIONS, _PACKAGES, strict=True) if find_spec(package) is None]
        if absent:
            return f"{', '.join(absent)} not installed: pip install {' '.join(absent)}"
        found = version("apache-tvm-ffi")
        if not found.startswith(f"{_FFI}."):
            return f"apache-tvm-ffi {found} crashes when TVM saves a module: pip install apache-tvm-ffi=={_FFI}.post1"
        return missing_linker(target)

    def cannot_run(self, target: Target) -> str | None:
        """Why a library for the device cannot be loaded by this process, or None."""
        import platform

        from hycompile.backends.tvm.target import architecture, is_this_host

        if is_this_host(target.triple):
            return self.missing(target)
        if architecture(target.triple) != architecture(platform.machine()):
            return f"built, not run: {architecture(target.triple)} library on {platform.machine()}"
        return f"built, not run: library for {target.triple} on {platform.system()}"

    def obstacles(self, program: Program, target: Target) -> list[Obstacle]:
        """Operators that TVM's torch front end does not translate, with their lines of model source."""
        from hycompile.backends.tvm.obstacles import find_obstacles

        return find_obstacles(program)

    def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
        """Compile and link.

        Raises:
            Unsupported: something is missing, or the front end, LLVM or the linker refuses.
        """
        missing = self.missing(target)
        if missing is not None:
            raise Unsupported(f"device {target.name!r}", "its TVM toolchain is not complete here", missing)
        from hycompile.backends.tvm.lower import write_library
        from hycompile.float16 import to_precision

        inner = to_precision(program, target.precision)
        files, facts = write_library(inner.program, target, folder)
        tools = {name: version(name) for name in _DISTRIBUTIONS}
        return Lowered(files, {**facts, "precision": target.precision, "kept_in_fp32": inner.kept}, tools)

    def open(self, artifact: Artifact, threads: int | None = None) -> TvmSession:
        """Load a library built for this host.

        Raises:
            ArtifactError: built for another machine, or a file is missing or corrupt.
        """
        reason = self.cannot_run(artifact.target)
        if reason is not None:
            raise ArtifactError(f"{artifact.folder}", reason, f"run it on {artifact.target.name}")
        from pydantic import ValidationError
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from hycompile.backends.tvm.interface import Interface
        from hycompile.backends.tvm.session import TvmSession

        path = artifact.file("weights")
        try:
            weights = load_file(path)
            path = artifact.file("interface")
            interface = Interface.model_validate_json(path.read_text())
            state = load_file(path := artifact.file("state")) if "state" in artifact.manifest.files else {}
        except (SafetensorError, ValidationError, OSError) as error:
            raise ArtifactError(
                f"{path}", f"cannot be read ({str(error).splitlines()[0]})", "rebuild the artifact"
            ) from error
        return TvmSession(artifact.file("model"), interface, artifact.manifest.methods, weights, state, threads)
