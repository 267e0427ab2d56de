"""Bridge blocks: where feature maps become tokens and tokens maps, with and without sums in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.passes.quantise.bridges import bridges
from hycompile.passes.quantise.layers import survey
from tests.passes.quantise.models import hybrid
from tests.support import captured


class _ThereAndBack(nn.Module):
    """A stem, a residual on maps, two linears on tokens side by side, and a convolution behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm, self.one, self.other = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.after, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        x = x + self.branch(x)
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        tokens = self.one(tokens) * self.other(tokens).sigmoid()
        maps = tokens.transpose(1, 2).unflatten(2, (3, 3))
        return self.head(self.after(maps).mean((2, 3)))


def _named(model: nn.Module, x: Tensor) -> dict[str, tuple[list[str], list[str]]]:
    layers = survey(captured(model, x).methods["forward"], products=False, outputs=True).layers
    found = bridges(layers)
    return {
        bridge.first.node.name: ([node.name for node in bridge.nodes], [node.name for node in bridge.ends])
        for bridge in found
    }


def test_both_ways_from_the_last_layer_before_to_the_first_behind() -> None:
    """The stem, whose value reaches the tokens through the sum, is none: the branch comes later."""
    found = _named(_ThereAndBack(), torch.randn(1, 2, 3, 3))
    assert set(found) == {"conv2d_1", "linear", "linear_1"}
    assert found["conv2d_1"][1] == ["linear", "linear_1"]
    assert found["conv2d_1"][0][0] == "add"
    assert "layer_norm" in found["conv2d_1"][0]
    assert found["linear"][1] == ["conv2d_2"]
    assert found["linear_1"][0][0] == "sigmoid"


def test_a_vector_behind_a_pool_is_no_sequence_of_tokens() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(2, 4, 1), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    assert _named(Pooled(), torch.randn(1, 2, 3, 3)) == {}


def test_hybrid_has_one() -> None:
    layers = survey(hybrid().methods["forward"], products=False, outputs=True).layers
    assert [(bridge.first.node.name, bridge.ends[0].name) for bridge in bridges(layers)] == [("conv2d_2", "linear")]
