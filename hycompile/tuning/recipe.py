"""Recipes: what was chosen for a model on a device, with the measurements that decided, as a text file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hycompile.errors import DeviceError
from hycompile.files import write_text
from hycompile.settings_file import explain, read_settings
from hycompile.target import Precision, Target

Outcome = Literal["taken", "left", "same", "failed"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measured(_Strict):
    """A median of paired ratios, below 1 where the first is faster, and its 95 % interval."""

    ratio: float = Field(gt=0)
    interval: tuple[float, float]


class Trial(_Strict):
    """One value of one choice beside the one chosen until then.

    ``outcome``: ``taken`` for its speed; ``left`` because it was not faster; ``same`` file, so nothing to measure;
    ``failed`` to be built or proved, for the ``reason`` given.
    """

    choice: str
    value: str | int | bool
    instead_of: str | int | bool
    outcome: Outcome
    measured: Measured | None = None
    reason: str = ""


class Evidence(_Strict):
    """What the choice rests on: conditions, and the chosen form over the device file's own, measured at the end.

    ``measured`` is absent where the device file's own was chosen, and while the search still runs.
    """

    threads: int = Field(ge=1)
    cpu: str
    taken_at: str
    tools: dict[str, str]
    measured: Measured | None = None


class Recipe(_Strict):
    """The contents of a recipe file: the settings a build replays, then how they came about.

    Args:
        model: what it was measured on; other models may be built with it.
        device: name of the device it is for.
        runtime: the only one it builds.
        options: keys of the device's table for that runtime.
    """

    format: Literal[1] = 1
    model: str
    device: str
    runtime: str
    precision: Precision
    pipeline: str
    options: dict[str, str | int | bool] = Field(default_factory=dict[str, str | int | bool])
    evidence: Evidence
    trials: tuple[Trial, ...] = ()

    def apply(self, target: Target) -> Target:
        """The target as the recipe wants it.

        Raises:
            DeviceError: the recipe is for another device, or has an option that the runtime does not know.
        """
        if target.name != self.device:
            raise DeviceError(
                f"recipe for device {self.device!r}",
                f"cannot build for {target.name!r}",
                f"give --device {self.device}, or tune for {target.name}",
            )
        table: Any = getattr(target, self.runtime, None)
        changed: dict[str, Any] = {"precision": self.precision, "pipeline": self.pipeline}
        if self.options or table is not None:
            changed[self.runtime] = {**(table.model_dump() if table is not None else {}), **self.options}
        try:
            return Target.model_validate(target.model_dump() | changed)
        except ValidationError as error:
            raise explain(f"recipe for {self.model}", error, Target, "tune again") from None

    def save(self, path: Path) -> None:
        """Write the recipe, whole or not at all."""
        import tomli_w

        samples = " --calibration DIR" if self.precision == "int8" else ""
        replay = f"hycompile build {self.model} --device {self.device} --recipe {path.name}{samples}"
        text = tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
        write_text(path, f"# Replay with: {replay}\n{text}")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        DeviceError: no such file, or not a recipe.
    """
    return read_settings(path, Recipe, "recipe", "`hycompile tune` writes one")
