"""Quantised Programs as packages: MIL's own operators, few bits where the target has them, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import hycompile as hy
from hycompile.artifact import Artifact
from hycompile.backends.coreml import Coreml
from hycompile.cache import Cache
from hycompile.device import load_target, open_session
from hycompile.parity import execute
from hycompile.program import Program
from hycompile.quantisation.prove import prove_quantised
from hycompile.schema import bind
from hycompile.target import CoremlOptions, Target
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured

Lower = Callable[..., Artifact]


def _quantised(text: str) -> Program:
    return hy.quantise(hybrid(), samples(16), text)[0]


def _operators(artifact: Artifact) -> dict[str, int]:
    found = artifact.manifest.facts["operators"]
    assert isinstance(found, dict)
    return found


def test_package_holds_quantised_values_and_weights(lower_coreml: Lower) -> None:
    eight = lower_coreml(_quantised("quantise"), "int8")
    operators = _operators(eight)
    assert operators["constexpr_blockwise_shift_scale"] == 5
    assert (operators["quantize"], operators["dequantize"]) == (8, 8)
    assert "cast" not in operators


def _weight_bytes(artifact: Artifact) -> int:
    size = artifact.manifest.facts["weight_bytes"]
    assert isinstance(size, int)
    return size


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_four_bits_take_half_of_eight(lower_coreml: Lower) -> None:
    """MIL has int4 from iOS18 on; before, a weight of fewer bits takes eight."""
    torch.manual_seed(0)
    program, images = captured(_Wide(), torch.randn(1, 256)), [torch.randn(1, 256)]
    sizes = {
        (bits, system): _weight_bytes(
            lower_coreml(hy.quantise(program, images, f"quantise{{bits={bits},activation_bits=0}}")[0], "int8", system)
        )
        for bits, system in ((8, "iOS18"), (4, "iOS18"), (4, "iOS16"))
    }
    assert sizes[8, "iOS18"] - sizes[4, "iOS18"] == 256 * 256 // 2
    assert sizes[4, "iOS16"] >= 256 * 256


@pytest.mark.parametrize(
    ("text", "system", "said"),
    [
        ("quantise", "iOS16", "quantised values need iOS17 or macOS14, the target is iOS16"),
        ("quantise{weights=tensor,activation_bits=0}", "iOS16", "weights of one scale need iOS17 or macOS14"),
        ("quantise{activation_bits=0}", "iOS15", "quantised weights need iOS16 or macOS13"),
        ("quantise{activation_bits=0}", "iOS16", None),
        ("quantise", "iOS17", None),
    ],
)
def test_older_systems(coreml_target: Callable[..., Target], text: str, system: str, said: str | None) -> None:
    found = [each.reason for each in Coreml().obstacles(_quantised(text), coreml_target("int8", system)) if each.fatal]
    assert bool(found) == (said is not None)
    assert said is None or any(said in reason for reason in found)


class _Moved(nn.Module):
    """A layer's result, moved to the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 6), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x).reshape(-1, 2, 3))


def _beside(floats: str) -> Target:
    coreml = CoremlOptions.model_validate({"beside_int8": floats})
    return load_target("host").model_copy(update={"precision": "int8", "coreml": coreml})


def test_floats_beside_whole_numbers_are_16_bits_where_the_device_says_so(tmp_path: Path) -> None:
    program = _quantised("quantise")
    artifact = hy.lower(program, _beside("fp16"), "coreml", cache=Cache(tmp_path))
    # The input becomes float16, and the output float32 again; nothing is cast in between.
    assert (artifact.manifest.facts["computes_in"], _operators(artifact)["cast"]) == ("fp16", 2)
    proof = prove_quantised(open_session(artifact), program, hybrid())
    assert proof.simulation.output_sqnr < proof.artifact.output_sqnr < 100


class _Memory(nn.Module):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)
        self.register_buffer("seen", torch.zeros(1, 32))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(self.linear(x))
        return self.seen * 2


def test_state_needs_16_bits_beside_whole_numbers_too() -> None:
    images = [torch.randn(1, 32) for _ in range(4)]
    program, _ = hy.quantise(captured(_Memory(), images[0]), images)
    (found,) = Coreml().obstacles(program, _beside("fp32"))
    assert found.reason == "Core ML state is float16, which rounds what float32 promises to keep"
    assert found.way_out.startswith("set coreml.beside_int8 to fp16 in the device file")
    assert not Coreml().obstacles(program, _beside("fp16"))


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_moved_value_is_rounded_again_where_its_grid_changes(lower_coreml: Lower, factor: float) -> None:
    """coremltools 9.0 drops the second rounding, whatever the two grids are."""
    torch.manual_seed(0)
    images = [torch.randn(4, 6) for _ in range(8)]
    program, _ = hy.quantise(captured(_Moved(), images[0]), images)
    graph = program.methods["forward"].graph
    again = [node for node in graph.graph.nodes if node.name.startswith("quantize")][-1]
    scale = bind(again)["scale"] * factor
    for node in (again, *again.users):
        node.args = (node.args[0], scale, *node.args[2:])
    graph.recompile()
    session = open_session(lower_coreml(program, "int8"))
    for x in images:
        expected = execute(program.methods["forward"], (x,)).outputs[0]
        torch.testing.assert_close(session.run((x,))[0], expected, rtol=1e-5, atol=1e-5)
