"""Small modules with a constant factor or term, or a norm's weight, in every place where hybrids have one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Forward = Callable[["Parts", Tensor], Tensor | tuple[Tensor, ...]]


class Parts(nn.Module):
    """Layers over images ``[N, 4, H, W]`` and tokens ``[N, T, 4]``, and constants; ``forward`` is given."""

    def __init__(self, forward: Forward, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.call = forward
        self.conv, self.padded = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(4, 6, 3, 2, groups=2)
        self.linear, self.other, self.back = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)
        self.down, self.up_again = nn.Linear(4, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.layer_norm, self.group_norm, self.rms_norm = nn.LayerNorm(4), nn.GroupNorm(1, 4), nn.RMSNorm(4)
        self.plane_norm = nn.LayerNorm([3, 4])
        self.image4, self.image6 = nn.Parameter(torch.randn(4, 1, 1)), nn.Parameter(torch.randn(1, 6, 1, 1))
        self.c4, self.c6 = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(6))
        self.matrix, self.term4, self.positive = (
            nn.Parameter(torch.randn(4, 6)),
            nn.Parameter(torch.randn(4)),
            nn.Parameter(torch.rand(6) + 0.5),
        )
        self.positions = nn.Parameter(torch.randn(3, 6))
        self.batch = nn.Parameter(torch.randn(2, 4, 6))
        self.single, self.single_again = nn.Linear(4, 1), nn.Linear(2, 1)
        for norm in (self.layer_norm, self.group_norm, self.rms_norm, self.plane_norm):
            for parameter in norm.parameters():
                nn.init.normal_(parameter, 1.0)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.call(self, x)


def residual(m: Parts, x: Tensor) -> Tensor:
    """ConvNeXt and EdgeNeXt: a layer scale over tokens, back to an image, then the residual addition."""
    y = m.c4 * m.back(F.gelu(m.linear(x.permute(0, 2, 3, 1))))
    return x + y.permute(0, 3, 1, 2)


def gated_memory(m: Parts, x: Tensor) -> Tensor:
    """SambaY's gated memory unit with a constant diagonal on the memory."""
    return m.back((x.tanh() @ m.matrix.detach().relu() * m.c6) * F.silu(m.linear(x)))


def attention(m: Parts, x: Tensor) -> Tensor:
    """One layer norm before three projections."""
    y = m.layer_norm(x)
    return (m.linear(y) @ m.other(y).transpose(1, 2)).softmax(-1) @ m.linear(y)
