"""hycompile as a contender: both methods compiled over one state, and run in the runtime they were compiled for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.language import subjects
from benchmarks.language.builds import Build, Mode
from benchmarks.language.session import Logits, Timed, timed
from hycompile.errors import ArtifactError

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.backend import Session

_DEVICE = "host"
_CUT = "sink-slices"
# Nothing is calibrated: ranges of inputs are found at run time, and weights are random.
_QUANTISE = {
    "fp32": "",
    "int4": ",quantise{bits=4,group=32,activations=dynamic,min_sqnr=-300.0}",
    "int8": ",quantise{activations=dynamic,min_sqnr=-300.0}",
}


def pipeline(build: Build) -> str:
    """The device's passes, without the cut where a build is to have none, and quantisation where it is to have that."""
    from hycompile.device import load_target

    names = load_target(_DEVICE).pipeline.split(",")
    return ",".join(name for name in names if build.cut or name != _CUT) + _QUANTISE[build.weights]


def compile_to(build: Build, folder: Path) -> Artifact:
    """Capture, rewrite, and lower into an empty folder.

    Passes are not checked rule by rule: the artifact itself is held against eager.

    Raises:
        HycompileError: whatever stands in the way.
    """
    from hycompile import registry
    from hycompile.cache import Cache
    from hycompile.device import choose_target
    from hycompile.lowering import lower_cached
    from hycompile.pipeline import Pipeline
    from hycompile.program import Step
    from hycompile.sharing import share

    text, program = pipeline(build), subjects.program(build)
    # What quantisation is compared with float on.
    program.calibration = tuple(Step(name, tuple(method.flat_inputs())) for name, method in program.methods.items())
    for step in Pipeline.parse(text).passes:
        step.run(program, lambda program, report: None)
        share(program.methods.values())
    backend, precision = registry.backend(build.runtime), "fp32" if build.weights == "fp32" else "int8"
    return lower_cached(program, backend, choose_target(_DEVICE, precision, text), text, Cache(folder))[0]


def load(folder: Path, threads: int) -> HycompileSession:
    """Open what ``compile_to`` made.

    Raises:
        HycompileError: it is damaged, or its runtime is not here.
    """
    from hycompile import registry
    from hycompile.artifact import MANIFEST, Artifact

    artifact = Artifact.load(next(folder.rglob(MANIFEST)).parent)
    backend = registry.backend(artifact.backend)
    return HycompileSession(artifact, lambda: backend.open(artifact, threads))


class HycompileSession:
    """One sequence; ``session.Session`` says what its methods do.

    A prompt begins the sequence and has at most the length that was compiled; it is filled up with padding, which costs
    as much as tokens do. Caches are held whole, whatever is in them.
    """

    def __init__(self, artifact: Artifact, open_anew: Callable[[], Session]) -> None:
        self._methods, self._open = artifact.manifest.methods, open_anew
        self._session = open_anew()
        self._position = 0

    def prefill(self, tokens: Sequence[int]) -> Timed:
        import torch

        self._require("prefill")
        if self._position:
            raise ArtifactError("prefill", "it begins a sequence, and one is under way", "reset first")
        length: Any = self._methods["prefill"].inputs[0].shape[1]
        if len(tokens) > length:
            raise ArtifactError(f"{len(tokens)} tokens", f"prefill takes {length}", "compile for the length you need")
        padded = torch.zeros(1, length, dtype=torch.int64)
        padded[0, : len(tokens)] = torch.tensor(list(tokens))
        return self._run("prefill", padded, len(tokens), len(tokens))

    def decode(self, token: int) -> Timed:
        import torch

        self._require("decode")
        return self._run("decode", torch.tensor([[token]]), self._position, self._position + 1)

    def reset(self) -> None:
        if self._position and "prefill" not in self._methods:
            # Only a prompt clears the state; without one, the file's first state is taken again.
            self._session = self._open()
        self._position = 0

    def skip_to(self, position: int) -> None:
        """Go on as if ``position`` tokens had come, over whatever the state holds: for timing a full cache."""
        self._position = position

    @property
    def state_bytes(self) -> int:
        state = self._session.state() or {}
        return sum(value.numel() * value.element_size() for value in state.values())

    def close(self) -> None:
        del self._session

    def _require(self, method: Mode) -> None:
        if method not in self._methods:
            raise ArtifactError(method, "it was not compiled", f"there is {', '.join(self._methods)}")

    def _run(self, method: Mode, tokens: Any, number: int, then: int) -> Timed:
        import torch

        def compute() -> Logits:
            (logits,) = self._session.run((tokens, torch.tensor([number])), method)
            return logits.reshape(-1).numpy()

        measured = timed(compute)
        self._position = then
        return measured
