"""Post-training quantisation: layers, and operators between them, compute on whole numbers as a plan says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from hycompile.errors import ParityError, PassError
from hycompile.parity import Proof
from hycompile.passes.quantise.between import operators_between
from hycompile.passes.quantise.calibrate import require_calibration
from hycompile.passes.quantise.choose import Budget, choose
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.keep import AUTO, Names
from hycompile.passes.quantise.layers import Survey, survey
from hycompile.passes.quantise.linears import restrict
from hycompile.passes.quantise.make_plan import Scheme, make_plan, observe
from hycompile.passes.quantise.methods import Search, search_for
from hycompile.passes.quantise.mixture import Mixture, Planned
from hycompile.passes.quantise.observers import OBSERVERS
from hycompile.passes.quantise.rounding import ROUNDINGS
from hycompile.passes.quantise.sensitivity import marked, measure_sensitivity
from hycompile.passes.quantise.split_silu import split_silu
from hycompile.pipeline import Check, Pass
from hycompile.program import Method, Program, source_line
from hycompile.quantisation.measure import compare_layers
from hycompile.quantisation.nodes import is_quantised
from hycompile.quantisation.plan import Comparison, QuantPlan, Sensitivity
from hycompile.quantisation.state_path import keeps_state, mark_state_path
from hycompile.quantisation.whole import operands
from hycompile.reports import Refusal, RuleReport
from hycompile.rewrite import apply
from hycompile.script import steps

__all__ = ["Quantise"]

# Calls of each method on which layers are measured on their own, where the options do not say.
_CALLS = 4


@dataclass(frozen=True)
class Quantise(Pass):
    """Rounds the weights, inputs and outputs of convolutions and linears to whole numbers.

    The Program that comes out computes in float on rounded values: it is the simulation every artifact is held to.
    Ranges come from ``program.calibration`` (``hy.quantise``, ``hycompile build --calibration``). Put it last.

    ``bits`` of weights, ``activation_bits`` of values between layers (0 leaves them in float), 2 to 8. ``observer``
    chooses ranges of activations, ``weight_observer`` those of weights: ``minmax``, ``percentile`` or ``mse``.
    ``method`` is the search that changes these (``observed``: none); ``without`` names parts of it to leave out, joined
    by ``+``.
    ``weights`` have a scale for each output ``channel`` or for the ``tensor``, and are symmetric; ``group`` gives
    linears one for so many inputs of a channel, or the largest share of these that divides it. ``activations`` are
    ``asymmetric``, ``symmetric``, or ``dynamic``: of linears alone, each row of whose input (a token) has a range of
    its own, found at run time. ``rounding`` of weights is to the ``nearest``, or by ``gptq`` layer by layer: for 4 bits
    or so, on 128 samples or more. ``state`` rounds the layers that decide over a recurrence's state, too. ``products``
    rounds matrix products of two values, too; ``outputs=false`` rounds inputs only. ``between=whole`` lets sums,
    products, concatenations and activations between layers compute on whole numbers where that moves fewer bytes,
    ``float`` none. ``min_sqnr`` is the budget: the signal-to-noise ratio of the outputs on the calibration set, in dB.

    ``keep`` names layers, or their weights, that stay in float (``keep="head,stem*"``); ``auto`` keeps the fewest, most
    sensitive ones, by which ``min_sqnr`` and the budget of an evaluation hold; with ``max_mb`` as many as fit, the
    weights counted at their bits. ``kept_bits`` rounds them to that many bits instead, the values they read and give
    with them. ``sensitivity`` measures every layer on its own on so many calls of each method.
    """

    name: ClassVar[str] = "quantise"
    # Held to min_sqnr on the calibration set. What a difference on one example means, only the user can tell.
    budget: ClassVar[float | None] = math.inf
    bits: int = 8
    activation_bits: int = 8
    method: str = "observed"
    without: str = ""
    observer: str = "minmax"
    weight_observer: str = "minmax"
    weights: str = "channel"
    group: int = 0
    activations: str = "asymmetric"
    rounding: str = "nearest"
    state: bool = False
    products: bool = False
    outputs: bool = True
    between: str = "float"
    min_sqnr: float = 10.0
    keep: str = ""
    kept_bits: int = 0
    max_mb: float = 0.0
    sensitivity: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or not (self.activation_bits == 0 or 2 <= self.activation_bits <= 8):
            raise ValueError(f"{self.bits} and {self.activation_bits} bits; 2 to 8, or 0 for activations in float")
        search_for(self.method, self.without)
        for name in (self.observer, self.weight_observer):
            if name not in OBSERVERS:
                raise ValueError(f"no observer {name!r}; one of {', '.join(OBSERVERS)}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"no rounding {self.rounding!r}; one of {', '.join(ROUNDINGS)}")
        if self.weights not in ("channel", "tensor"):
            raise ValueError(f"weights by {self.weights!r}; channel or tensor")
        if self.activations not in ("asymmetric", "symmetric", "dynamic"):
            raise ValueError(f"activations {self.activations!r}; asymmetric, symmetric or dynamic")
        if self.activations == "dynamic" and self.activation_bits != 8:
            raise ValueError(f"dynamic activations of {self.activation_bits} bits; runtimes have those of 8")
        if self.group and (self.group < 16 or self.group & (self.group - 1) or self.weights != "channel"):
            raise ValueError(f"group {self.group} of weights by {self.weights}; 16, 32, 64, ... by channel")
        if self.kept_bits and not self.bits < self.kept_bits <= 8:
            raise ValueError(f"kept_bits={self.kept_bits}; above bits={self.bits}, at most 8, or 0 for float")
        if self.max_mb and not self.automatic:
            raise ValueError("max_mb is what keep=auto may use; add it")
        if self.between not in ("whole", "float"):
            raise ValueError(f"operators between layers {self.between!r}; whole or float")

    @property
    def automatic(self) -> bool:
        """Whether layers to keep are chosen by how sensitive they are."""
        return AUTO in (part.strip() for part in self.keep.split(","))

    @property
    def calibrates(self) -> bool:
        """Whether calibration data chooses something: ranges known ahead, a search, rounding, or layers to keep."""
        ahead = self.activation_bits != 0 and self.activations != "dynamic"
        return ahead or self.method != "observed" or self.rounding != "nearest" or self.automatic

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("quantise_layers"), time.perf_counter()
        if is_quantised(program):
            raise PassError(f"program {program.name!r}", "is quantised already", "start from the float model")
        require_calibration(program, ranges=self.calibrates)
        # Where nothing is chosen by it, the calls that the model brings tell the costs as well.
        program.calibration = program.calibration or tuple(steps(program))
        search = search_for(self.method, self.without)
        self._prepare(search, program, report)
        if self._between:
            apply(split_silu, program)
        mixture = self._mixture(program, search)
        kept = mixture.matching(Names.parse(self.keep).match)
        gated = program.evaluation is not None and program.evaluation.max_drop is not None
        found = self._sensitivity(mixture) if self.automatic or self.sensitivity or gated else None
        if self.automatic and found is not None:
            kept = choose(mixture, found, self._budget(), kept)
        written = mixture.write(program, kept, "among the most sensitive, kept in float by keep=auto")
        plan = written.plan
        report.facts |= plan.summary() | {"quantise and dequantise nodes": written.nodes}
        if self._between:
            found_by = map(mixture.survey, mixture.original.methods.values())
            report.facts["operators between layers"] = sum(
                operands(layer.node) is not None for each in found_by for layer in each.layers
            )
        if mixture.layerwise:
            report.facts["weights rounded by GPTQ"] = written.again
        report.hits = len(mixture.names) + len(mixture.narrow.plan.kept) - len(plan.kept)
        report.refusals = _refusals(mixture.original, plan)
        measured = compare_layers(mixture.original, program, program.calibration)
        sensitivity = None if found is None else marked(found, kept, self.kept_bits)
        program.plan = plan.model_copy(update={"measured": measured, "sensitivity": sensitivity})
        if report.hits:
            if not measured.output_sqnr >= self.min_sqnr:
                raise self._missed(measured, sensitivity or self._sensitivity(mixture))
            check(program, report)
        report.seconds = time.perf_counter() - start
        return [report]

    def _mixture(self, program: Program, search: Search) -> Mixture:
        """The plan for every layer, and, if layers may be kept in more bits, another one for these."""
        names = Names.parse(self.keep)

        def found(method: Method) -> Survey:
            everything = self._survey(method)
            return self._with_operators(method, everything if self.kept_bits else names.without(everything))

        names.require([self._survey(method) for method in program.methods.values()])
        wide = None
        if self.keep and self.kept_bits:
            more = self.activation_bits and max(self.activation_bits, self.kept_bits)
            wide = replace(self, bits=self.kept_bits, activation_bits=more, kept_bits=0)._plan(program, found, search)
        return Mixture(
            program.copy(), found, self._plan(program, found, search), wide, layerwise=self.rounding == "gptq"
        )

    def _plan(self, program: Program, found: Callable[[Method], Survey], search: Search) -> Planned:
        program = program.copy()
        surveys = {name: found(method) for name, method in program.methods.items()}
        drafts = observe(program, surveys, self._weights(), self._activations())
        search.run(program, drafts)
        return Planned(make_plan(program, surveys, drafts), program)

    def _sensitivity(self, mixture: Mixture) -> Sensitivity:
        return measure_sensitivity(mixture, mixture.original.calibration, self.sensitivity or _CALLS)

    def _budget(self) -> Budget:
        return Budget(self.min_sqnr, self.max_mb * 1e6 or None, self.bits, self.kept_bits)

    def _weights(self) -> Scheme:
        grid = Grid(self.bits, symmetric=True)
        return Scheme(grid, self.weight_observer, channels=self.weights == "channel", group=self.group)

    def _survey(self, method: Method) -> Survey:
        mark_state_path(method.graph)
        found, dynamic = survey(method, products=self.products, outputs=self.outputs), self.activations == "dynamic"
        return restrict(method, found, dynamic=dynamic, group=self.group, state=self.state)

    @property
    def _between(self) -> bool:
        """Whether operators may compute on whole numbers: they take those that layers give."""
        return self.between == "whole" and self.outputs and self.activation_bits > 0 and self.activations != "dynamic"

    def _with_operators(self, method: Method, found: Survey) -> Survey:
        """The layers and, in graph order, the operators between them that compute on whole numbers, too."""
        nodes = method.graph.graph.nodes  # What is rounded on a recurrence's way adds up over its steps.
        if not self._between or any(map(keeps_state, nodes)):
            return found
        place = {node: index for index, node in enumerate(nodes)}
        layers = sorted([*found.layers, *operators_between(method, found.layers)], key=lambda each: place[each.node])
        return Survey(layers, found.kept)

    def _activations(self) -> Scheme | None:
        if not self.activation_bits:
            return None
        grid = Grid(self.activation_bits, symmetric=self.activations == "symmetric")
        return Scheme(grid, self.observer, dynamic=self.activations == "dynamic")

    def _prepare(self, search: Search, program: Program, report: RuleReport) -> None:
        """Let the search rewrite the float model; whatever it changes there is proved as any exact rewrite."""
        proof = Proof(program) if type(search).prepare is not Search.prepare else None
        if proof is not None and (changed := search.prepare(program)):
            proof.check(program, f"pass {self}, before it rounds")
            report.facts["exact rewrites before"] = changed

    def _missed(self, found: Comparison, sensitivity: Sensitivity) -> ParityError:
        return ParityError(
            f"pass {self}",
            f"signal-to-noise ratio {found.output_sqnr:.1f} dB on the calibration set, "
            f"budget {self.min_sqnr:.1f} dB; {sensitivity.blame()}",
            "give more bits, another observer, keep=auto, or a lower min_sqnr",
        )


def _refusals(original: Program, plan: QuantPlan) -> list[Refusal]:
    nodes = {(name, node.name): node for name, method in original.methods.items() for node in method.graph.graph.nodes}
    return [Refusal(one.reason, one.node, source_line(nodes[one.method, one.node])) for one in plan.kept]
