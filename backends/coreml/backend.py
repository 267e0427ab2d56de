"""The ``coreml`` backend: an ML Program package, proved by a reference interpreter."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from hycompile.backend import Lowered, Obstacle
from hycompile.errors import Unsupported
from hycompile.target import Precision, Target

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backends.coreml.session import InterpreterSession
    from hycompile.program import Program

_PACKAGES = ("torch", "coremltools")
PACKAGE = "model.mlpackage"


class Coreml:
    """Lowers to one ML Program package (role ``model``): one function, or one for each of several methods.

    Its sessions run the reference interpreter on any host: they prove the package, but their time means nothing
    (``measurable`` is False).
    """

    name: ClassVar[str] = "coreml"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    measurable: ClassVar[bool] = False

    def missing(self, target: Target) -> str | None:
        """None when coremltools is installed."""
        absent = [name for name in _PACKAGES if find_spec(name) is None]
        return f"{', '.join(absent)} not installed: pip install {' '.join(absent)}" if absent else None

    def cannot_run(self, target: Target) -> str | None:
        """The reference interpreter runs wherever torch does."""
        return self.missing(target)

    def obstacles(self, program: Program, target: Target) -> list[Obstacle]:
        """Operators, ranks, types and state Core ML does not have, with their lines of model source."""
        from hycompile.backends.coreml.obstacles import find_obstacles

        return find_obstacles(program, target)

    def lower(self, program: Program, target: Target, folder: Path) -> Lowered:
        """Write ``model.mlpackage``.

        Raises:
            Unsupported: a fatal obstacle, or a refusal of the converter.
        """
        from hycompile.backends.coreml.build import write_package
        from hycompile.backends.coreml.obstacles import interface_obstacles

        fatal = [obstacle for obstacle in interface_obstacles(program, target) if obstacle.fatal]
        if fatal:
            first = fatal[0]
            at = f" at {first.where}" if first.where else ""
            more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
            raise Unsupported(f"{first.operator}{at}", f"{first.reason}{more}", first.way_out)
        facts = write_package(program, target, folder / PACKAGE)
        return Lowered({"model": PACKAGE}, facts, {name: version(name) for name in _PACKAGES})

    def open(self, artifact: Artifact, threads: int | None = None) -> InterpreterSession:
        """Load the package into the reference interpreter.

        Raises:
            ArtifactError: the package is damaged.
            Unsupported: it holds operators the interpreter lacks.
        """
        from hycompile.backends.coreml.interpreter import Machine
        from hycompile.backends.coreml.package import load_functions
        from hycompile.backends.coreml.session import InterpreterSession, States

        functions = load_functions(artifact.file("model"))
        names = cast("dict[str, str]", artifact.manifest.facts["functions"])
        machines = {method: Machine(functions[name], name) for method, name in names.items()}
        states = cast("dict[str, str]", artifact.manifest.facts["states"])
        widths = cast("dict[str, int]", artifact.manifest.facts["state_widths"])
        arguments = cast("dict[str, dict[str, dict[str, str]]]", artifact.manifest.facts["state_arguments"])
        return InterpreterSession(machines, artifact.manifest.methods, States(states, widths, arguments), threads)
