"""``hycompile measure``: latency of an artifact, or its ratio to another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hycompile.cli.output import JsonFlag, console, print_json, working
from hycompile.errors import ArtifactError

if TYPE_CHECKING:
    from hycompile.artifact import Artifact
    from hycompile.measure.compare import Ratio
    from hycompile.measure.latency import Latency
    from hycompile.measure.sampling import Plan, Subject

ArtifactFolder = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of a built artifact.")]


def measure(
    artifact: ArtifactFolder,
    device: Annotated[str, typer.Option(help="Where to run it.")] = "host",
    threads: Annotated[int, typer.Option(min=1, help="Intra-operator threads.")] = 1,
    against: Annotated[
        Path | None, typer.Option(metavar="ARTIFACT", help="Compare with this artifact, interleaved.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Which method of the artifact.")] = None,
    runs: Annotated[int, typer.Option(min=6, help="Samples to take.")] = 60,
    seconds: Annotated[float, typer.Option(min=0.1, help="Stop sampling after this long.")] = 10.0,
    size: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="Value of a dynamic size; repeatable.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Measure the latency of an artifact.

    Warm-up until stable, raw samples, medians with intervals, and the conditions they were taken under.
    """
    from hycompile.artifact import Artifact
    from hycompile.measure.latency import default_method
    from hycompile.measure.sampling import Plan

    sizes = _sizes(size or [])
    plan = Plan(runs=runs, max_seconds=seconds, threads=threads)
    with working() as say:
        say(f"loading {artifact}")
        first = Artifact.load(artifact)
        chosen = method or default_method(first)
        if chosen not in first.manifest.methods:
            known = ", ".join(first.manifest.methods)
            raise ArtifactError(f"method {chosen!r}", f"{artifact} has no such method", f"give one of: {known}")
        if against is None:
            say(f"measuring {artifact}")
            result = _latency(first, device, chosen, sizes, plan)
        else:
            say(f"measuring {artifact} against {against}")
            result = _ratio(first, Artifact.load(against), chosen, sizes, plan)
    if json:
        print_json(result.to_json())
    else:
        console().print("\n".join(_lines(result.to_json())), markup=False)


def _latency(artifact: Artifact, device: str, method: str, sizes: dict[str, int], plan: Plan) -> Latency:
    from hycompile.measure.inputs import random_inputs
    from hycompile.measure.latency import measure as take

    inputs = random_inputs(artifact.manifest.methods[method], sizes)
    return take(artifact, device, inputs=inputs, method=method, plan=plan)


def _ratio(first: Artifact, second: Artifact, method: str, sizes: dict[str, int], plan: Plan) -> Ratio:
    from hycompile.measure.compare import compare
    from hycompile.measure.inputs import random_inputs
    from hycompile.measure.latency import load

    def subject(artifact: Artifact) -> Subject:
        return load(artifact, plan.threads).subject(random_inputs(artifact.manifest.methods[method], sizes), method)

    return compare(subject(first), subject(second), (str(first.folder), str(second.folder)), plan)


def _sizes(pairs: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not value.isdigit():
            raise typer.BadParameter(f"{pair!r} is not NAME=N")
        sizes[name] = int(value)
    return sizes


def _lines(result: dict[str, Any]) -> list[str]:
    if "verdict" in result:
        return [result["verdict"]]
    low, high = result["interval_ms"]
    conditions = result["conditions"]
    count = len(result["samples_ms"])
    peak = "unknown" if result["peak_mb"] is None else f"{result['peak_mb']:.0f} MB above before"
    stable = "stable" if result["stable"] else "NOT stable"
    return [
        f"{result['artifact']} ({result['backend']}, method {result['method']}) on {result['device']}",
        f"median    {result['median_ms']:.3f} ms   95 % interval {low:.3f} to {high:.3f} ms",
        f"p90, p99  {result['p90_ms']:.3f} ms, {result['p99_ms']:.3f} ms",
        f"CPU time  {result['cpu_median_ms']:.3f} ms",
        f"load      {result['load_ms']:.0f} ms",
        f"peak      {peak}",
        f"samples   {count} after {result['warm_up_runs']} warm-up runs ({stable})",
        f"on        {conditions['cpu']}, {conditions['threads']} threads of {conditions['cpus']} CPUs, "
        f"governor {conditions['governor'] or 'unknown'}, load average {conditions['load_before']:.1f}",
    ]
