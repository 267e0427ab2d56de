"""The ``tensorrt`` backend: engines built ahead of time from the ONNX backend's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hycompile.backend import Lowered, Obstacle
from hycompile.errors import ArtifactError, Unsupported
from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backends.tensorrt.session import TensorrtSession
    from hycompile.program import Program

_ENGINE, _ONNX = ".engine", ".onnx"


class Tensorrt:
    """One engine per method: ``model.engine`` (role ``model``) for ``forward``, ``METHOD.engine`` otherwise.

    The ONNX file each engine was made from lies beside it (role ``ROLE.onnx``), with the ONNX backend's state file.
    State is inputs and outputs of the engine, as it is there.
    """

    name: ClassVar[str] = "tensorrt"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    quantise: ClassVar[str] = "quantise{activations=symmetric}"

    def missing(self, target: Target) -> str | None:
        """None when the target's flavour of TensorRT and the ONNX exporter are installed."""
        from hycompile.backends.onnx import Onnx
        from hycompile.backends.tensorrt.library import missing

        return missing(target.tensorrt.flavour) or Onnx().missing(target)

    def cannot_run(self, target: Target) -> str | None:
        """None on a machine with a GPU of the target's compute capability that torch can use."""
        from hycompile.backends.tensorrt.library import gpu_capability

        absent, wanted = self.missing(target), target.tensorrt.compute_capability
        if absent is not None:
            return f"built, not run: {absent}"
        here = gpu_capability()
        if here is None:
            return (
                f"built, not run: no NVIDIA GPU that torch can use here, the engine needs compute capability {wanted}"
            )
        if here != wanted:
            return f"built, not run: the GPU here has compute capability {here}, the engine is for {wanted}"
        return None

    def obstacles(self, program: Program, target: Target) -> list[Obstacle]:
        """The ONNX exporter's obstacles, an unreachable compute capability, grids with zero points, and dynamic sizes
        without an upper bound.

        What TensorRT's own parser refuses is known only once the ONNX file exists: ``lower`` reports it.
        """
        from hycompile.backends.onnx import Onnx
        from hycompile.backends.tensorrt.library import capability_refusal, missing
        from hycompile.backends.tensorrt.shapes import shape_ranges
        from hycompile.backends.tensorrt.zero_points import zero_points

        found = Onnx().obstacles(program, target)
        options = target.tensorrt
        refusal = missing(options.flavour) or capability_refusal(options.flavour, options.compute_capability)
        if refusal is not None:
            seen = f"compute capability {options.compute_capability}"
            found.append(Obstacle(seen, 1, refusal, "choose another device or tensorrt.flavour"))
        for method in program.methods.values():
            found += zero_points(method, f"quantise them with {self.quantise}")
            try:
                shape_ranges(method)
            except Unsupported as error:
                found.append(Obstacle(error.seen, 1, error.reason, error.way_out))
        return found

    def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
        """Write the ONNX files, and an engine from each.

        Raises:
            Unsupported: the exporter, TensorRT's parser or its compiler refuses the program.
        """
        from hycompile.backends.onnx import Onnx
        from hycompile.backends.onnx.backend import role_of
        from hycompile.backends.tensorrt.engine import build_engine
        from hycompile.backends.tensorrt.shapes import shape_ranges

        options = target.tensorrt
        ranges = {role_of(name): shape_ranges(method) for name, method in program.methods.items()}
        source = Onnx().lower(program, target, folder)
        files = {f"{role}{_ONNX}" if role in ranges else role: file for role, file in source.files.items()}
        engines: dict[str, dict[str, object]] = {}
        for role in ranges:
            model = folder / source.files[role]
            engine = build_engine(model, options.flavour, options.compute_capability, target.precision, ranges[role])
            files[role] = f"{role}{_ENGINE}"
            (folder / files[role]).write_bytes(engine.plan)
            engines[role] = engine.facts
        facts = {
            "compute_capability": options.compute_capability,
            "flavour": options.flavour,
            "precision": target.precision,
            "tf32": False,
            "state": source.facts["state"],
            "state_bytes": source.facts["state_bytes"],
            "engines": engines,
            "onnx": source.facts,
        }
        tensorrt = str(next(iter(engines.values()))["tensorrt"])
        return Lowered(files, facts, {**source.tools, options.flavour: tensorrt})

    def open(self, artifact: Artifact, threads: int | None = None) -> TensorrtSession:
        """Load every method's engine on the GPU; ``threads`` has no meaning there.

        Raises:
            Unsupported: this machine cannot run the engine.
            ArtifactError: an engine file is corrupt or from another TensorRT.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from hycompile.backends.onnx.backend import role_of
        from hycompile.backends.tensorrt.session import TensorrtSession

        refusal = self.cannot_run(artifact.target)
        if refusal is not None:
            raise Unsupported(f"{artifact.folder}", refusal, "run it on the device itself")
        engines = {name: artifact.file(role_of(name)) for name in artifact.manifest.methods}
        state = artifact.file("state") if "state" in artifact.manifest.files else None
        try:
            first = load_file(state) if state is not None else {}
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{state}", f"cannot be read ({error})", "rebuild the artifact") from error
        return TensorrtSession(engines, first, artifact.target.tensorrt.flavour)
