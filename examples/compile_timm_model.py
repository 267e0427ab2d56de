"""Compile a model of timm from Python: capture, passes, ONNX Runtime on this machine, proof, latency.

With no arguments it takes efficientformer_l1; any other of timm's hybrids, and any runtime of this machine, will do:

    python examples/compile_timm_model.py mobilevit_s executorch
"""

from __future__ import annotations

import sys
from typing import Any

import torch

import hycompile as hy
from hycompile.device import open_session
from hycompile.measure.sampling import Plan
from hycompile.models.torchvision_schemas import declare_missing_operators
from hycompile.parity import relative_error
from hycompile.prove import prove


def main(name: str = "efficientformer_l1", runtime: str = "onnx") -> None:
    """Take one model all the way, and say what happened at each step."""
    # timm imports torchvision, whose compiled operators cannot be loaded next to a CPU build of torch.
    declare_missing_operators()
    import timm

    # Random weights keep this example off the network; pretrained=True compiles just the same.
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False).eval()
    image = torch.randn(1, *model.pretrained_cfg["input_size"])

    original = hy.capture(model, (image,), name=name)
    print(f"captured {name}: {len(original.methods['forward'].graph.graph.nodes)} nodes")

    pipeline = hy.Pipeline.parse("normalise,reparameterise")
    program, report = pipeline(original)
    for step in report.passes:
        print(f"pass {step.text}: {step.hits} hits in {step.seconds:.1f} s")
        for rule in step.rules:
            print(f"  {rule.rule}: {rule.hits} hits, {len(rule.refusals)} refused")
    print(f"error against the model: {report.error_fp32:.1e} in float32, {report.error_fp64:.1e} in float64")

    artifact = hy.lower(program, device="host", runtime=runtime, pipeline=str(pipeline))
    print(f"{artifact.backend} artifact of {artifact.size_bytes / 1e6:.1f} MB in {artifact.folder}")

    with torch.no_grad():
        expected = model(image)
    outputs = open_session(artifact).run((image,))
    print(f"{runtime} on this image: relative error {relative_error(outputs, [expected]):.1e}")
    print(f"{runtime} on three draws of the input: relative error {prove(open_session(artifact), original):.1e}")

    latency = hy.measure(artifact, device="host", plan=Plan(max_seconds=3, max_warm_up_seconds=2))
    low, high = latency.interval_ms
    print(f"median {latency.median_ms:.1f} ms (95 % interval {low:.1f} to {high:.1f}), load {latency.load_ms:.0f} ms")
    if latency.conditions.warning:
        print(latency.conditions.warning)


if __name__ == "__main__":
    main(*sys.argv[1:])
