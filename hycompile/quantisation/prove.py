"""Holds an artifact to the quantised Program it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from hycompile.backend import Session
from hycompile.errors import ParityError
from hycompile.parity import play
from hycompile.program import Program, Step
from hycompile.quantisation.measure import Agreement
from hycompile.quantisation.plan import Comparison
from hycompile.script import steps

# Rounding of another order of additions moves a value by one step where it lies on the edge between two, and every
# layer behind makes more of it, so that no fixed bound on single values holds. In the sum it stays well below what
# quantisation itself changes, which a layer that computes something else does not.
MARGIN_DB = 6.0
_EXACT = 1e-4
_MOST = 256


@dataclass(frozen=True)
class QuantisedProof:
    """What an artifact is compared with: the quantised Program it must compute, and the float model that one is of."""

    artifact: Comparison
    simulation: Comparison

    def facts(self) -> dict[str, object]:
        """For reports."""
        parts = (("artifact to simulation", self.artifact), ("simulation to float", self.simulation))
        return {
            name: {key: round(value, 4) for key, value in part.model_dump(exclude={"layers"}).items()}
            for name, part in parts
        }


def prove_quantised(session: Session, simulation: Program, original: Program) -> QuantisedProof:
    """Run artifact, quantised Program and float model on the calibration set, or its first 256 calls.

    Args:
        session: the artifact, freshly opened.
        simulation: the Program it was lowered from.
        original: the float model; or the simulation itself, read from a file: its plan says how far it is off.
    """
    script = list(islice(simulation.calibration, _MOST)) or steps(original)
    artifact, distance = Agreement(), Agreement()
    rounded, known = play(simulation, script), play(original, script)
    for given, result, reference in zip(_run(session, script), rounded, known, strict=True):
        artifact.add(result.outputs, given)
        distance.add(reference.outputs, result.outputs)
    known_distance = original.plan.measured if original.plan is not None else None
    return QuantisedProof(artifact.compared(), known_distance or distance.compared())


def require_simulation(what: str, proof: QuantisedProof, way_out: str) -> None:
    """Raise unless the artifact is nearer to the simulation than that is to the float model, by 6 dB.

    Raises:
        ParityError: it is not.
    """
    near, far = proof.artifact.output_sqnr, proof.simulation.output_sqnr
    if near >= far + MARGIN_DB or proof.artifact.worst_error <= _EXACT:
        return
    reason = (
        f"computes something else than the quantised model: signal-to-noise ratio {near:.1f} dB, needed "
        f"{far + MARGIN_DB:.1f} dB, which is {MARGIN_DB:.0f} dB above that of the quantised model to the float model"
    )
    raise ParityError(what, reason, way_out)


def _run(session: Session, script: Iterable[Step]) -> Iterator[tuple[Tensor, ...]]:
    for step in script:
        yield session.run(step.inputs, step.method)
