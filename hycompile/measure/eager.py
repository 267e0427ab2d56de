"""A built artifact beside the uncompiled model: latency, ratio to eager PyTorch, time per operator."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hycompile.errors import Unsupported
from hycompile.measure.compare import Ratio
from hycompile.measure.conditions import load_average
from hycompile.measure.latency import default_method, load
from hycompile.measure.sampling import Plan, Subject, interleave
from hycompile.measure.statistics import median, median_interval

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.artifact import Artifact, MethodSpec
    from hycompile.program import Method, Program
    from hycompile.reports import RuntimeReport

EAGER = "eager PyTorch"
NO_LATENCY = "no_latency"


def measure_runtime(row: RuntimeReport, artifact: Artifact, original: Program, plan: Plan) -> dict[str, object] | None:
    """Measure an artifact, turn by turn with the model it was built from, and fill in its row of the report.

    Args:
        row: gets ``latency``, ``ratio`` and ``profile``; or the fact ``no_latency`` with the reason.
        artifact: what the row is about.
        original: the program before any pass; its state is as before afterwards.
        plan: how long, how often, and with how many threads (the runtime and PyTorch alike).

    Returns:
        the eager samples beside it, for ``BuildReport.eager``; None where there is no latency.
    """
    load_before = load_average()
    name = default_method(artifact)
    method = original.methods[name]
    try:
        loaded = load(artifact, plan.threads)
    except Unsupported as error:
        row.facts = {**row.facts, NO_LATENCY: error.reason}
        return None
    inputs = _cast(method.flat_inputs(), artifact.manifest.methods[name])
    with _eager(method, plan.threads) as eager:
        ours, theirs = interleave(loaded.subject(inputs, name), eager, plan)
    row.latency = loaded.latency(ours, name, plan.threads, load_before).to_json()
    row.ratio = Ratio(artifact.backend, EAGER, ours, theirs, plan.threads).to_json()
    row.profile = [(time.operator, time.calls, time.ms) for time in loaded.session.profile(inputs) or ()]
    return {
        "median_ms": median(theirs.wall_ms),
        "interval_ms": list(median_interval(theirs.wall_ms)),
        "samples_ms": list(theirs.wall_ms),
        "cpu_samples_ms": list(theirs.cpu_ms),
    }


def _cast(inputs: Sequence[Tensor], spec: MethodSpec) -> tuple[Tensor, ...]:
    """The example inputs in the types the artifact's signature names."""
    import torch

    return tuple(tensor.to(getattr(torch, item.dtype)) for tensor, item in zip(inputs, spec.inputs, strict=True))


@contextmanager
def _eager(method: Method, threads: int) -> Generator[Subject]:
    """The method as a callable; torch's thread count and the method's state are put back at the end."""
    import torch

    from hycompile.attributes import tensor_at

    state = {name: tensor_at(method.graph, name) for name in method.mutated()}
    kept = {name: tensor.clone() for name, tensor in state.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    def run() -> object:
        with torch.no_grad():
            return method.graph(*method.args, **method.kwargs)

    try:
        yield run
    finally:
        torch.set_num_threads(before)
        for name, tensor in state.items():
            tensor.copy_(kept[name])
