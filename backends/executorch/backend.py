"""The backend's face: cheap to import, silent, and delegating to its deeper files only when asked to work."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hycompile.backends.executorch.quiet import quiet_executorch
from hycompile.errors import Unsupported
from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backend import Lowered, Obstacle, Session
    from hycompile.program import Program

# Partitioner: the delegate's name in the runtime's registry, and where it does run.
DELEGATES = {
    "xnnpack": ("XnnpackBackend", "any CPU"),
    "coreml": ("CoreMLBackend", "iOS and macOS"),
    "vulkan": ("VulkanBackend", "a device with a Vulkan driver"),
}
NEEDS = {"xnnpack": ("executorch",), "coreml": ("executorch", "coremltools"), "vulkan": ("executorch",)}


class Executorch:
    """Lowers to ``model.pte`` and runs it in the ExecuTorch runtime of the Python wheel."""

    name: ClassVar[str] = "executorch"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"convolutions": ("whole", "rows")}

    def missing(self, target: Target) -> str | None:
        """None when the partitioners the target asks for can be imported; otherwise what to install."""
        packages = {package for name in target.executorch.partitioners for package in NEEDS[name]}
        absent = sorted(package for package in packages | {"executorch"} if find_spec(package) is None)
        return f"{', '.join(absent)} not installed: pip install {' '.join(absent)}" if absent else None

    def cannot_run(self, target: Target) -> str | None:
        """None when the runtime here holds every delegate the target asks for."""
        missing = self.missing(target)
        if missing is not None:
            return f"built, not run: {missing}"
        with quiet_executorch():
            from executorch.runtime import Runtime

            present = set(Runtime.get().backend_registry.registered_backend_names)
        for name in target.executorch.partitioners:
            delegate, where = DELEGATES[name]
            if delegate not in present:
                return f"built, not run: {delegate} is not in this host's ExecuTorch runtime; it runs on {where}"
        return None

    def obstacles(self, program: Program, target: Target) -> list[Obstacle]:
        """Operators without a kernel (fatal) and operators that fall out of the delegates, with their source lines."""
        self._require(target)
        with quiet_executorch():
            from hycompile.backends.executorch.survey import survey

            return survey(program, target)

    def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
        """Write ``model.pte``: all methods, weights stored once, state with its captured initial values.

        Raises:
            Unsupported: an operator has no kernel, a dynamic size no upper bound, or state would be lost.
        """
        self._require(target)
        with quiet_executorch():
            from hycompile.backends.executorch.lowering import lower

            return lower(program, target, folder)

    def open(self, artifact: Artifact, threads: int | None = None) -> Session:
        """Load an artifact; each session has its own state, starting at the captured values.

        The runtime has one thread pool per process: ``threads`` changes it for every session opened from here on.

        Raises:
            ArtifactError: the file is not a readable ``.pte``.
            Unsupported: this host's runtime lacks a delegate the file needs.
        """
        reason = self.cannot_run(artifact.target)
        if reason is not None:
            raise Unsupported(f"{artifact.folder}", reason.removeprefix("built, not run: "), "run it on the device")
        with quiet_executorch():
            from hycompile.backends.executorch.session import ExecutorchSession

            return ExecutorchSession(artifact.file("model"), artifact.manifest.methods, threads)

    def _require(self, target: Target) -> None:
        missing = self.missing(target)
        if missing is not None:
            reason, _, way_out = missing.partition(": ")
            raise Unsupported(f"target {target.name!r}", reason, way_out)
