"""The ``onnx`` backend: one ``.onnx`` file per method, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hycompile.backend import Lowered, Obstacle
from hycompile.errors import ArtifactError
from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backends.onnx.session import OrtSession
    from hycompile.program import Program

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
_STATE_FILE = "state.safetensors"


class Onnx:
    """Lowers through torch's onnxscript exporter; written state becomes inputs and outputs (``state.NAME[.out]``).

    Files: ``model.onnx`` (role ``model``) for ``forward``, ``METHOD.onnx`` (role ``METHOD``) for any other method,
    ``state.safetensors`` (role ``state``) with the first values of written buffers, and a ``.data`` file beside a model
    whose weights exceed what one protobuf message holds. A half-precision model takes and returns the program's own
    types and computes in float16 in between; its state is float16.
    """

    name: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    choices: ClassVar[Mapping[str, tuple[int, ...]]] = {"opset": (18, 20)}

    def missing(self, target: Target) -> str | None:
        """None when exporter and runtime are installed; otherwise which package is not."""
        absent = [name for name in _PACKAGES if find_spec(name) is None]
        return f"{', '.join(absent)} not installed: pip install {' '.join(absent)}" if absent else None

    def cannot_run(self, target: Target) -> str | None:
        """ONNX Runtime's CPU kernels run every artifact of this backend here, whatever its device."""
        return self.missing(target)

    def obstacles(self, program: Program, target: Target) -> list[Obstacle]:
        """Operators without a translation to ONNX, with their lines of model source."""
        from hycompile.backends.onnx.obstacles import find_obstacles

        return find_obstacles(program, target.onnx.opset)

    def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
        """Write the models and the first state.

        Raises:
            Unsupported: the exporter refuses an operator, the opset cannot be reached, or state would be lost.
        """
        from safetensors.torch import save_file

        from hycompile.backends.onnx.lower import write_methods
        from hycompile.backends.onnx.signature import shared_state
        from hycompile.float16 import to_precision

        half = to_precision(program, target.precision)
        inner = half.program
        state = shared_state(inner)
        files, facts = write_methods(inner, program, state, target.onnx.opset, folder)
        if state:
            files["state"] = _STATE_FILE
            save_file(
                {name: value.detach().clone().contiguous() for name, value in state.items()}, folder / _STATE_FILE
            )
        tools = {name: version(name) for name in _PACKAGES}
        facts |= {"precision": target.precision, "kept_in_fp32": half.kept, "state": list(state)}
        return Lowered(files, facts, tools)

    def open(self, artifact: Artifact, threads: int | None = None) -> OrtSession:
        """Load every method into ONNX Runtime with all graph optimisations on the CPU.

        Raises:
            ArtifactError: a file is missing or corrupt.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from hycompile.backends.onnx.session import OrtSession

        methods = {name: artifact.file(role_of(name)) for name in artifact.manifest.methods}
        state = artifact.file("state") if "state" in artifact.manifest.files else None
        try:
            first = load_file(state) if state is not None else {}
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{state}", f"cannot be read ({error})", "rebuild the artifact") from error
        return OrtSession(methods, first, threads)


def role_of(method: str) -> str:
    """The file role of a method's model: ``model`` for ``forward``, the method's name otherwise."""
    return "model" if method == "forward" else method
