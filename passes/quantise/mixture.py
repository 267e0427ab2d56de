"""Plans in which some layers are rounded more finely than the others, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

from hycompile.attributes import put_tensor, storage_key, tensor_at
from hycompile.passes.quantise.insert import Inserter
from hycompile.passes.quantise.layers import Layer, Survey, points
from hycompile.passes.quantise.rounding import round_layerwise
from hycompile.program import Method, Program
from hycompile.quantisation.plan import KeptLayer, QuantPlan

# A layer by method and node.
Name = tuple[str, str]
# Layers that share a weight, in one method or in several: they are rounded alike, or the weight is stored twice.
Unit = tuple[Name, ...]


@dataclass(frozen=True)
class Planned:
    """A plan, and a copy of the float Program with the weights that it rounds: a search may have changed these."""

    plan: QuantPlan
    program: Program


@dataclass(frozen=True)
class Written:
    """A plan that was written into a Program; quantise and dequantise nodes made, and weights rounded again."""

    plan: QuantPlan
    nodes: int
    again: int = 0


@dataclass(frozen=True)
class Mixture:
    """One float Program, and how its layers are rounded.

    Args:
        original: the float Program; it stays as it is.
        survey: finds the layers of a method.
        narrow: rounds every layer.
        wide: the same with more bits, for layers that are kept; None keeps them in float.
        layerwise: weights are rounded again in the end, layer by layer.
    """

    original: Program
    survey: Callable[[Method], Survey]
    narrow: Planned
    wide: Planned | None = None
    layerwise: bool = False

    @cached_property
    def units(self) -> dict[Unit, int]:
        """Every layer, together with those that share its weight, and the number of its weight's values."""
        found: dict[object, list[Name]] = {}
        sizes: dict[object, int] = {}
        for method, survey in self._surveys(self.original).items():
            for layer in survey.layers:
                name = (method, layer.node.name)
                key: object = name
                if layer.weight is not None:
                    weight = tensor_at(self.original.methods[method].graph, str(layer.weight.target))
                    key, sizes[storage_key(weight)] = storage_key(weight), weight.numel()
                found.setdefault(key, []).append(name)
        return {tuple(names): sizes.get(key, 0) for key, names in found.items()}

    @property
    def names(self) -> set[Name]:
        """Every layer that may be rounded."""
        return {name for unit in self.units for name in unit}

    def matching(self, match: Callable[[Layer], bool]) -> list[Unit]:
        """The units with a layer that matches."""
        surveys = self._surveys(self.original).items()
        found = {(method, layer.node.name) for method, survey in surveys for layer in survey.layers if match(layer)}
        return [unit for unit in self.units if found & set(unit)]

    def alone(self, unit: Unit) -> Program:
        """Only this one is rounded."""
        program = self.original.copy()
        replace(self, layerwise=False)._write(program, self.narrow.plan, left=self.names - set(unit))
        return program

    def keeping(self, kept: Collection[Unit], *, quick: bool = False) -> Program:
        """Every layer but these is rounded by the narrow plan; ``quick`` rounds every weight to the nearest."""
        program = self.original.copy()
        (replace(self, layerwise=False) if quick else self).write(program, kept)
        return program

    def write(self, program: Program, kept: Collection[Unit], reason: str = "") -> Written:
        """Round ``program``, a copy of the original, in place.

        Args:
            program: what to rewrite.
            kept: rounded by the wide plan, or not at all if there is none.
            reason: why they are kept, for the plan.
        """
        names = {name for unit in kept for name in unit}
        if self.wide is not None:
            plan = self._widened(names, self.wide.plan)
            return self._write(program, plan, widened=names)
        surveys = self._surveys(self.original)
        needed = {
            (method, value)
            for method, survey in surveys.items()
            for value in _values([layer for layer in survey.layers if (method, layer.node.name) not in names])
        }
        narrow = self.narrow.plan
        plan = narrow.model_copy(
            update={
                "values": tuple(value for value in narrow.values if (value.method, value.node) in needed),
                "kept": (
                    *narrow.kept,
                    *(KeptLayer(method=method, node=node, reason=reason) for method, node in sorted(names)),
                ),
            }
        )
        return self._write(program, plan, left=names)

    def _write(
        self, program: Program, plan: QuantPlan, left: Collection[Name] = (), widened: Collection[Name] = ()
    ) -> Written:
        """Insert a plan for all layers but those that are left in float."""
        inserter, made, written = Inserter(plan), 0, dict[str, list[Layer]]()
        for name, survey in self._surveys(program).items():
            layers = [layer for layer in survey.layers if (name, layer.node.name) not in left]
            for layer in layers:
                source = self.wide if (name, layer.node.name) in widened else self.narrow
                assert source is not None
                _take_constants(program.methods[name], source.program.methods[name], layer)
            made += inserter.run(name, program.methods[name], layers)
            written[name] = layers
        again = round_layerwise(self.original, program, written, plan) if self.layerwise else 0
        return Written(plan, made, again)

    def _widened(self, names: set[Name], wide: QuantPlan) -> QuantPlan:
        """The narrow plan with the wide one's grids for weights, inputs and outputs of some layers."""
        taken: set[Name] = set()
        for method, survey in self._surveys(self.original).items():
            chosen = [layer for layer in survey.layers if (method, layer.node.name) in names]
            own = set(_values(chosen))
            # What is moved about between layers has one grid.
            sources = {source for point, source in points(survey.layers) if point.name in own}
            own |= {point.name for point, source in points(survey.layers) if source in sources}
            taken |= {(method, value) for value in own}
        wider = {(value.method, value.node): value for value in wide.values}
        values = (
            wider[value.method, value.node] if (value.method, value.node) in taken else value
            for value in self.narrow.plan.values
        )
        return self.narrow.plan.model_copy(update={"values": tuple(values)})

    def _surveys(self, program: Program) -> dict[str, Survey]:
        return {name: self.survey(method) for name, method in program.methods.items()}


def _take_constants(method: Method, source: Method, layer: Layer) -> None:
    """Give a layer the weight and the bias that it has in ``source``."""
    for constant in (layer.weight, layer.bias):
        if constant is not None:
            tensor = tensor_at(source.graph, str(constant.target))
            if tensor is not tensor_at(method.graph, str(constant.target)):
                put_tensor(method.graph, str(constant.target), tensor)


def _values(layers: list[Layer]) -> set[str]:
    """Names of the values that these layers have rounded."""
    weights = {str(layer.weight.target) for layer in layers if layer.weight is not None}
    return weights | {point.name for point, _ in points(layers)}
