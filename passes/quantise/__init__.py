"""Post-training quantisation: layers compute on whole numbers, as a plan made from calibration data says."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import ClassVar

from hycompile.errors import ParityError, PassError
from hycompile.parity import Proof
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.insert import Inserter
from hycompile.passes.quantise.layers import Survey, survey
from hycompile.passes.quantise.linears import restrict
from hycompile.passes.quantise.make_plan import Scheme, make_plan, observe
from hycompile.passes.quantise.methods import Search, search_for
from hycompile.passes.quantise.observers import OBSERVERS
from hycompile.passes.quantise.rounding import ROUNDINGS, round_layerwise
from hycompile.pipeline import Check, Pass
from hycompile.program import Method, Program, source_line
from hycompile.quantisation.measure import compare_layers
from hycompile.quantisation.nodes import is_quantised
from hycompile.quantisation.plan import Comparison
from hycompile.quantisation.state_path import mark_state_path
from hycompile.reports import Refusal, RuleReport

__all__ = ["Quantise"]


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
    rounds matrix products of two values, too; ``outputs=false`` rounds inputs only. ``min_sqnr`` is the budget: the
    signal-to-noise ratio of the outputs on the calibration set, in dB.
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
    min_sqnr: float = 10.0

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

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        report, start = RuleReport("quantise_layers"), time.perf_counter()
        if is_quantised(program):
            raise PassError(f"program {program.name!r}", "is quantised already", "start from the float model")
        if program.on_meta:
            raise PassError(f"program {program.name!r}", "is on the meta device: it has no values", "load its weights")
        if not program.calibration:
            raise PassError(
                f"program {program.name!r}",
                "has no calibration data, and ranges cannot be known without",
                "give --calibration DIR, or hy.quantise(program, calibration=[...])",
            )
        search = search_for(self.method, self.without)
        self._prepare(search, program, report)
        original = program.copy()
        surveys = {
            name: self._restricted(method, survey(method, products=self.products, outputs=self.outputs))
            for name, method in program.methods.items()
        }
        drafts = observe(program, surveys, self._weights(), self._activations())
        search.run(program, drafts)
        plan = make_plan(program, surveys, drafts)
        inserter = Inserter(plan)
        report.facts |= plan.summary()
        nodes = sum(inserter.run(name, method, surveys[name].layers) for name, method in program.methods.items())
        report.facts["quantise and dequantise nodes"] = nodes
        if self.rounding == "gptq":
            layers = {name: found.layers for name, found in surveys.items()}
            report.facts["weights rounded by GPTQ"] = round_layerwise(original, program, layers, plan)
        report.hits = sum(len(found.layers) for found in surveys.values())
        report.refusals = [refusal for found in surveys.values() for refusal in _refusals(found)]
        found = compare_layers(original, program, program.calibration)
        program.plan = plan.model_copy(update={"measured": found})
        if report.hits:
            self._hold(found)
            check(program, report)
        report.seconds = time.perf_counter() - start
        return [report]

    def _weights(self) -> Scheme:
        grid = Grid(self.bits, symmetric=True)
        return Scheme(grid, self.weight_observer, channels=self.weights == "channel", group=self.group)

    def _restricted(self, method: Method, found: Survey) -> Survey:
        mark_state_path(method.graph)
        dynamic = self.activations == "dynamic"
        return restrict(method, found, dynamic=dynamic, group=self.group, state=self.state)

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

    def _hold(self, found: Comparison) -> None:
        """Raise unless the outputs on the calibration set are as near to the float model's as ``min_sqnr`` asks."""
        if not found.output_sqnr >= self.min_sqnr:
            worst = ", ".join(f"{layer.node} {layer.sqnr:.1f} dB" for layer in found.worst(3))
            raise ParityError(
                f"pass {self}",
                f"signal-to-noise ratio {found.output_sqnr:.1f} dB on the calibration set, "
                f"budget {self.min_sqnr:.1f} dB; lowest at {worst}",
                "give more bits, another observer, or a lower min_sqnr",
            )


def _refusals(found: Survey) -> list[Refusal]:
    return [Refusal(reason, node.name, source_line(node)) for node, reason in found.kept]
