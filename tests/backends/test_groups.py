"""Artifacts of linears with weights in groups or inputs whose ranges are found at run time, held to the simulation."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile import registry
from hycompile.artifact import Artifact
from hycompile.backends.onnx.groups import pack
from hycompile.cache import Cache
from hycompile.device import load_target, open_session
from hycompile.errors import Unsupported
from hycompile.program import Program
from hycompile.quantisation.prove import QuantisedProof, prove_quantised, require_simulation
from hycompile.target import CoremlOptions
from tests.passes.quantise.test_linears import samples
from tests.support import captured

DYNAMIC = "activations=dynamic"


class Feed(nn.Module):
    """A gated layer between an embedding and the head tied to it; two linears read one value."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 96)
        self.into, self.gate, self.out = nn.Linear(96, 64, bias=False), nn.Linear(96, 64), nn.Linear(64, 96)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        # No delegate takes cumsum: two delegates read the same rounded value.
        x = self.into(x) * torch.cumsum(torch.relu(self.gate(x)), 1)
        return F.linear(self.out(x), self.table.weight)


@cache
def feed() -> Program:
    torch.manual_seed(0)
    return captured(Feed(), torch.randint(40, (1, 6)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("groups"))


def _quantised(options: str) -> Program:
    return hy.quantise(feed(), samples(), f"quantise{{{options},min_sqnr=0.0}}")[0]


def _proved(program: Program, runtime: str, kept: Cache) -> tuple[Artifact, QuantisedProof]:
    artifact = hy.lower(program, "host", runtime, cache=kept)
    proof = prove_quantised(open_session(artifact), program, feed())
    require_simulation(runtime, proof, "")
    return artifact, proof


@pytest.mark.parametrize("options", [f"bits=4,group=32,{DYNAMIC}", f"bits=4,{DYNAMIC}", DYNAMIC])
def test_executorch_multiplies_rows_by_weights_of_4_and_8_bits(options: str, kept: Cache) -> None:
    artifact, proof = _proved(_quantised(options), "executorch", kept)
    assert proof.artifact.output_sqnr > 40
    facts: Any = artifact.manifest.facts
    assert not any("quant" in name for name in facts["outside"])


def test_executorch_stores_four_bits(kept: Cache) -> None:
    sizes = [
        hy.lower(_quantised(options), "host", "executorch", cache=kept).size_bytes
        for options in (f"bits=4,{DYNAMIC}", DYNAMIC)
    ]
    assert sizes[1] - sizes[0] == pytest.approx((3 * 64 * 96 + 40 * 96) / 2, rel=0.1)


def test_executorch_computes_groups_beside_known_ranges_in_float(kept: Cache) -> None:
    _, proof = _proved(_quantised("bits=4,group=32"), "executorch", kept)
    assert proof.artifact.output_sqnr > 40


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (f"bits=8,group=32,{DYNAMIC}", "weights in groups in 4 bits only"),
        (f"bits=4,group=16,{DYNAMIC}", "groups of multiples of 32, found 16"),
        (f"weights=tensor,{DYNAMIC}", "weights with a scale for each channel"),
    ],
)
def test_executorch_refuses_weights_that_xnnpack_has_not(options: str, reason: str, kept: Cache) -> None:
    with pytest.raises(Unsupported, match=reason):
        hy.lower(_quantised(options), "host", "executorch", cache=kept)


@pytest.mark.parametrize("bits", [4, 8])
def test_onnx_multiplies_by_groups(bits: int, kept: Cache) -> None:
    artifact, proof = _proved(_quantised(f"bits={bits},group=32,activation_bits=0"), "onnx", kept)
    facts: Any = artifact.manifest.facts
    assert facts["operators"]["MatMulNBits"] == 4
    assert proof.artifact.output_sqnr > 60


def test_coreml_holds_groups_of_four_bits(kept: Cache) -> None:
    four, proof = _proved(_quantised("bits=4,group=32,activation_bits=0"), "coreml", kept)
    eight, _ = _proved(_quantised("bits=8,group=32,activation_bits=0"), "coreml", kept)
    facts: Any = four.manifest.facts
    assert facts["operators"]["constexpr_blockwise_shift_scale"] == 4
    assert proof.artifact.output_sqnr > 60
    assert eight.size_bytes - four.size_bytes == pytest.approx((3 * 64 * 96 + 40 * 96) / 2, rel=0.1)


def test_coreml_has_no_groups_before_ios18() -> None:
    older = CoremlOptions(deployment_target="iOS17")
    target = load_target("host").model_copy(update={"coreml": older, "precision": "int8"})
    (found,) = registry.backend("coreml").obstacles(_quantised("bits=4,group=32,activation_bits=0"), target)
    assert "weights in groups need iOS18 or macOS15" in found.reason


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [
        ("onnx", "one range for all rows at run time"),
        ("coreml", "no range at run time"),
        ("tvm", "TVM's torch front end has no translation"),
    ],
)
def test_ranges_of_rows_are_refused(runtime: str, reason: str, kept: Cache) -> None:
    with pytest.raises(Unsupported, match=reason):
        hy.lower(_quantised(DYNAMIC), "host", runtime, cache=kept)


def test_onnx_numbers_are_packed_low_half_first() -> None:
    whole = torch.tensor([[-8, 7, 0, 1]], dtype=torch.int8)
    assert pack(whole, 4, 2).tolist() == [[[0 | 15 << 4], [8 | 9 << 4]]]
    assert pack(whole, 8, 2).tolist() == [[[120, 135], [128, 129]]]
