"""What a pipeline and a build have to say, as plain data: no torch needed to read a report back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["proved", "built", "refused", "failed"]


@dataclass(frozen=True)
class Refusal:
    """Why a rule left a matching place alone; ``node`` and ``where`` say which."""

    reason: str
    node: str
    where: str


@dataclass
class RuleReport:
    """What one rule did: hits, refusals, the error against the original in both precisions, seconds.

    ``facts`` are counts the rule exists to change, such as the bytes a program moves.
    """

    rule: str
    hits: int = 0
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    error_fp32: float | None = None
    error_fp64: float | None = None
    seconds: float = 0.0
    facts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class PassReport:
    """What one pass did. ``text`` is the pass with its options, as it stands in the pipeline."""

    text: str
    rules: list[RuleReport]
    seconds: float

    @property
    def hits(self) -> int:
        return sum(rule.hits for rule in self.rules)


@dataclass
class PipelineReport:
    """What a pipeline did, pass by pass, with the final error against the original in both precisions."""

    pipeline: str
    passes: list[PassReport] = field(default_factory=list[PassReport])
    error_fp32: float | None = None
    error_fp64: float | None = None
    seconds: float = 0.0


@dataclass
class RuntimeReport:
    """One runtime's outcome.

    Args:
        status: ``proved`` ran here and computes what the model computes; ``built`` cannot run here; ``refused`` the
            runtime or its toolchain cannot take the program; ``failed`` broke, or computes something else.
        rel_err: largest relative error over outputs and state, against the model before any pass, or against the
            quantised model, which the artifact is to compute; None if not run.
        reason: why not ``proved``; empty otherwise.
        folder: of the artifact; None if there is none.
        size_bytes: of the artifact's files.
        facts: what the backend reports (delegated share, operators outside, opset).
        obstacles: what costs speed or stood in the way, one sentence each.
        latency: samples, percentiles and conditions; None where nothing was measured.
        quantised: how near the artifact is to the quantised model, and that to the float model, on the calibration
            set: ``output_sqnr`` in dB, ``worst_error`` of a sample, ``agreement`` of the largest output in percent.
        profile: operator, calls, milliseconds; slowest first.
        score: by the user's evaluation function; None without one, or where the artifact was not run.
    """

    runtime: str
    status: Status
    precision: str
    rel_err: float | None = None
    reason: str = ""
    seconds: float = 0.0
    cached: bool = False
    folder: str | None = None
    size_bytes: int | None = None
    facts: dict[str, object] = field(default_factory=dict[str, object])
    obstacles: list[str] = field(default_factory=list[str])
    latency: dict[str, object] | None = None
    ratio: dict[str, object] | None = None
    quantised: dict[str, object] | None = None
    profile: list[tuple[str, int, float]] = field(default_factory=list[tuple[str, int, float]])
    score: float | None = None


@dataclass
class EvaluationReport:
    """What the user's evaluation function found; the artifacts' scores are in their rows.

    Args:
        function: its name.
        original: the score of the float model.
        simulation: the score of the quantised model; None if nothing was quantised.
        max_drop: by how much a score may be lower than the float model's; None if it is only told.
    """

    function: str
    original: float
    simulation: float | None
    max_drop: float | None


@dataclass
class SensitivityReport:
    """Every layer on its own, on a few calls of the calibration set; signal-to-noise ratios in dB.

    Args:
        calls: how many.
        together: with every layer rounded.
        layers: method, layer, ratio where it alone is rounded, ratio where all but it are, and what it was given in the
            end if it is not rounded as the others (``float``, ``8 bits``); in graph order.
    """

    calls: int
    together: float
    layers: list[tuple[str, str, float, float, str]]


@dataclass
class QuantisationReport:
    """What quantisation cost, on the calibration set: no accuracy, for that has no labels.

    Args:
        calls: of the calibration set.
        output_sqnr: signal-to-noise ratio of the outputs, dB, with the float model as the signal.
        worst_error: the largest error of one call, relative to its largest output.
        agreement: how often the largest entry of the first output is the same, percent.
        layers: method, layer, signal-to-noise ratio at its output in dB; in graph order.
        converts: reason and count of the values that become whole numbers, or floats again, for an operator in float.
        kept: reason and count of the layers that stay in float.
        values: what was quantised, counted by role and bits.
        plan: the plan as JSON text; once it is written, its file.
        sensitivity: every layer on its own; None if that was not measured.
    """

    calls: int
    output_sqnr: float
    worst_error: float
    agreement: float
    layers: list[tuple[str, str, float]]
    converts: list[tuple[str, int]]
    kept: list[tuple[str, int]]
    values: dict[str, int]
    plan: str
    sensitivity: SensitivityReport | None = None


@dataclass
class BuildReport:
    """Everything one build found out; the terminal table, ``--json`` and the HTML page are views of it."""

    source: str
    device: str
    program: str
    digest: str
    pipeline: PipelineReport
    runtimes: list[RuntimeReport]
    graph_before: str
    graph_after: str
    capture_seconds: float
    seconds: float
    cached: bool = False
    eager: dict[str, object] | None = None
    provenance: dict[str, str] = field(default_factory=dict[str, str])
    tools: dict[str, str] = field(default_factory=dict[str, str])
    quantisation: QuantisationReport | None = None
    evaluation: EvaluationReport | None = None
