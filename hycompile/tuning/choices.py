"""What there is to choose: options that change how a program is computed on a device, and not what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from hycompile import registry
from hycompile.pipeline import Pass, Pipeline
from hycompile.target import Target

Value = str | int | bool


class Choice(Protocol):
    """One decision. ``name`` is as users write it, ``values`` what it can be."""

    @property
    def name(self) -> str: ...

    @property
    def values(self) -> tuple[Value, ...]: ...

    def read(self, target: Target) -> Value:
        """How it is decided now."""
        ...

    def write(self, target: Target, value: Value) -> Target:
        """The target with another decision."""
        ...


@dataclasses.dataclass(frozen=True)
class PassChoice:
    """An option of a pass, wherever it stands in the pipeline."""

    pass_name: str
    option: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        return f"{self.pass_name}.{self.option}"

    def read(self, target: Target) -> Value:
        """The option of the first pass of that name."""
        return next(getattr(step, self.option) for step in _steps(target) if step.name == self.pass_name)

    def write(self, target: Target, value: Value) -> Target:
        """A pipeline with another value of the option."""
        steps = [
            dataclasses.replace(step, **{self.option: value}) if step.name == self.pass_name else step
            for step in _steps(target)
        ]
        return target.model_copy(update={"pipeline": str(Pipeline(tuple(steps)))})


@dataclasses.dataclass(frozen=True)
class RuntimeChoice:
    """A key in the table that a device file has for one runtime."""

    runtime: str
    key: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        return f"{self.runtime}.{self.key}"

    def read(self, target: Target) -> Value:
        """The key's value."""
        return getattr(getattr(target, self.runtime), self.key)

    def write(self, target: Target, value: Value) -> Target:
        """A device whose table for the runtime has another value."""
        table: Any = getattr(target, self.runtime)
        return target.model_copy(update={self.runtime: table.model_copy(update={self.key: value})})


def choices_for(target: Target, runtime: str) -> list[Choice]:
    """Everything that the runtime and the passes of the target's pipeline declare as ``choices``.

    The runtime's come first: what a pass gains can depend on the form its result is lowered to.
    """
    declared: Mapping[str, tuple[Value, ...]] = getattr(registry.backend(runtime), "choices", {})
    found: list[Choice] = [RuntimeChoice(runtime, key, values) for key, values in declared.items()]
    for name in dict.fromkeys(step.name for step in _steps(target)):
        options = registry.pass_class(name).choices
        found += [PassChoice(name, option, values) for option, values in options.items()]
    return found


def _steps(target: Target) -> tuple[Pass, ...]:
    return Pipeline.parse(target.pipeline).passes
