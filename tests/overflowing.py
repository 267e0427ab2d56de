"""A small network that is right in float32 and infinite in float16, for the tests of every backend."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hycompile.capture import capture
from hycompile.program import Program


class LinearAttention(nn.Module):
    """relu(q) (relu(k)' v) over relu(q) (relu(k)' 1) on [N, 16, 14, 14], and a projection, as in EfficientViT.

    The sums over positions reach 1e6 before the division brings them back to 1; 1e-15 keeps the divisor from zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Conv2d(16, 48, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (30 * self.qkv(x)).flatten(2).transpose(1, 2).chunk(3, -1)
        q, k = torch.relu(q), torch.relu(k)
        sums = q @ (k.transpose(1, 2) @ nn.functional.pad(v, (0, 1), value=1.0))
        ratio = sums[..., :-1] / (sums[..., -1:] + 1e-15)
        return x + self.proj(ratio.transpose(1, 2).reshape(x.shape))


def overflowing() -> Program:
    """The network on a positive image, so that no divisor is near zero."""
    torch.manual_seed(0)
    return capture(LinearAttention().eval(), (2 * torch.rand(1, 16, 14, 14),), name="overflowing")
