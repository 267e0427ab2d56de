"""``hycompile tune``: choose by measurement, and keep what was chosen as a recipe that a build replays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hycompile.cli.output import JsonFlag, console, print_json, working

if TYPE_CHECKING:
    from hycompile.tuning.recipe import Measured, Recipe

_STYLES = {"taken": "green", "left": "default", "same": "dim", "failed": "red"}


def tune(
    model: Annotated[str, typer.Argument(help="Registered model, .pt2 file or package.module:function.")],
    device: Annotated[str, typer.Option(help="Device name, or a path to a device file.")],
    runtime: Annotated[str | None, typer.Option(help="For this runtime; default: the device's first.")] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="Instead of the device's own.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Samples for int8: a .npz, .npy or .safetensors file each.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: MODEL-DEVICE-RUNTIME.toml.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Intra-operator threads while measuring.")] = 1,
    runs: Annotated[int, typer.Option(min=6, help="Pairs of samples per comparison.")] = 60,
    seconds: Annotated[float, typer.Option(min=0.1, help="Stop sampling a form after this long.")] = 10.0,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Artifact cache, instead of the user's own.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Measure which of several equal forms the device runs fastest.

    Each is built, proved, and timed turn by turn with the best until then. The recipe is written after every trial.
    """
    from hycompile.cache import Cache
    from hycompile.device import load_target
    from hycompile.measure.sampling import Plan
    from hycompile.tuning.tune import Request
    from hycompile.tuning.tune import tune as run

    target = load_target(device)
    plan = Plan(threads=threads, runs=runs, max_seconds=seconds)
    request = Request(model, device, runtime or target.runtimes[0], precision, plan, calibration)
    path = out or Path(f"{_stem(model)}-{target.name}-{request.runtime}.toml")
    with working() as say:
        recipe = run(request, cache=Cache(cache), progress=say, keep=lambda recipe: recipe.save(path))
    if json:
        print_json({**recipe.model_dump(mode="json"), "recipe": str(path.absolute())})
    else:
        _print(recipe, path, device, calibration)


def _stem(model: str) -> str:
    """A model's name as a part of a file name: of a path or function, the last part."""
    last = model.replace("\\", "/").rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return last.removesuffix(".pt2") or "model"


def _print(recipe: Recipe, path: Path, device: str, calibration: Path | None) -> None:
    from rich.table import Table

    out = console()
    table = Table("choice", "value", "instead of", "time ratio", "95 % interval", "outcome", box=None, pad_edge=False)
    for trial in recipe.trials:
        outcome = f"[{_STYLES[trial.outcome]}]{trial.outcome}[/]"
        table.add_row(trial.choice, str(trial.value), str(trial.instead_of), *_numbers(trial.measured), outcome)
    out.print(table)
    for trial in recipe.trials:
        if trial.reason:
            out.print(f"{trial.choice}={trial.value}: {trial.reason}", markup=False)
    out.print(_verdict(recipe), markup=False)
    samples = f" --calibration {calibration}" if calibration is not None else ""
    command = f"hycompile build {recipe.model} --device {device} --recipe {path}{samples}"
    out.print(f"recipe: {path}; replay it with\n    {command}", markup=False, soft_wrap=True)


def _numbers(measured: Measured | None) -> tuple[str, str]:
    if measured is None:
        return "", ""
    low, high = measured.interval
    return f"{measured.ratio:.3f}", f"{low:.3f} to {high:.3f}"


def _verdict(recipe: Recipe) -> str:
    measured = recipe.evidence.measured
    if measured is None:
        return f"nothing was faster than what {recipe.device} has in its file"
    ratio, interval = _numbers(measured)
    return f"chosen form over the device file's own: {ratio} of its time, 95 % interval {interval}"
