"""The PP-OCRv6 small recogniser: a convolutional backbone, two transformer blocks and a CTC classifier.

Module and parameter names follow the published weight file, so that its keys match.
Architecture: PP-LCNetV4 backbone and LightSVTR neck of PaddleOCR 3 (PaddlePaddle authors, Apache-2.0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 18710
_STEM = (48, 96)
# A stage is a list of blocks: input channels, output channels, stride (height, width), squeeze and excite.
_STAGES = (
    ((96, 96, (1, 1), True),),
    ((96, 96, (1, 1), False), (96, 96, (1, 1), False)),
    ((96, 192, (2, 1), False), *((192, 192, (1, 1), excite) for excite in (True, False) * 3)),
    ((192, 384, (2, 1), False), (384, 384, (1, 1), True), (384, 384, (1, 1), False)),
)
_WIDTH, _HEADS, _LOCAL_WINDOW, _BLOCKS = 120, 8, 7, 2


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation; padding keeps odd-sized windows centred."""

    def __init__(
        self,
        channels: int,
        out: int,
        window: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: type[nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        padding = ((window[0] - 1) // 2, (window[1] - 1) // 2)
        self.convolution = nn.Conv2d(channels, out, window, stride, padding, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(out)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.normalization(self.convolution(x)))


class Stem(nn.Module):
    """[N, 3, H, W] to [N, 96, H/4, W/4]; halfway, a pooled and a convolved branch run side by side."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.stem1 = ConvNorm(3, channels, (3, 3), stride=(2, 2), activation=nn.ReLU)
        self.stem2a = ConvNorm(channels, channels // 2, (2, 2), activation=nn.ReLU)
        self.stem2b = ConvNorm(channels // 2, channels, (2, 2), activation=nn.ReLU)
        self.stem3 = ConvNorm(2 * channels, channels, (3, 3), stride=(2, 2), activation=nn.ReLU)
        self.stem4 = ConvNorm(channels, out, (1, 1), activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        # Windows of 2 keep the size because one row and one column of zeros are added below and to the right.
        padded = F.pad(self.stem1(x), (0, 1, 0, 1))
        convolved = self.stem2b(F.pad(self.stem2a(padded), (0, 1, 0, 1)))
        pooled = F.max_pool2d(padded, 2, stride=1)
        return self.stem4(self.stem3(torch.cat([pooled, convolved], dim=1)))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in [0, 1] computed from the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeeze, excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
        self.convolutions = nn.Sequential(squeeze, nn.ReLU(), excite, nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.convolutions(F.adaptive_avg_pool2d(x, 1))


class MixerBlock(nn.Module):
    """Depthwise convolution over positions, then two pointwise convolutions over channels.

    The published weights of shape-keeping blocks hold their depthwise branches already merged into one biased
    convolution; only those blocks have a residual connection, from behind the depthwise convolution.
    """

    def __init__(self, channels: int, out: int, stride: tuple[int, int], excite: bool) -> None:
        super().__init__()
        self.keeps_shape = channels == out and stride == (1, 1)
        self.token_conv = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            if self.keeps_shape
            else ConvNorm(channels, channels, (3, 3), stride=stride, groups=channels)
        )
        self.token_squeeze_excitation = SqueezeExcite(channels) if excite else nn.Identity()
        self.channel_conv1 = ConvNorm(channels, 2 * channels, (1, 1), activation=nn.GELU)
        self.channel_conv2 = ConvNorm(2 * channels, out, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.token_squeeze_excitation(self.token_conv(x))
        out = self.channel_conv2(self.channel_conv1(mixed))
        return mixed + out if self.keeps_shape else out


class Stage(nn.Module):
    """Blocks at one resolution; the first may reduce it."""

    def __init__(self, blocks: tuple[tuple[int, int, tuple[int, int], bool], ...]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(MixerBlock(*block) for block in blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Encoder(nn.Module):
    """[N, 3, 48, W] to [N, 384, 3, W/4]: height is reduced more than width, so that letters stay apart."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Stem(*_STEM)
        self.blocks = nn.Sequential(*(Stage(blocks) for blocks in _STAGES))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.convolution(x))


class Backbone(nn.Module):
    """[N, 3, 48, W] to [N, 384, 1, W/8]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.encoder(x), (3, 2))


class Attention(nn.Module):
    """Multi-head self-attention over [N, T, C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.projection(mixed.transpose(1, 2).flatten(2))


class Feedforward(nn.Module):
    """Two linear layers with SiLU between, over [N, T, C]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each behind a layer norm and beside a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer_norm1, self.self_attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.layer_norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Feedforward(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Neck(nn.Module):
    """[N, C, 1, T] to [N, 120, 1, T]: local convolution, then global attention, beside a projected shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.ModuleList([
            ConvNorm(channels, _WIDTH, (1, 1), activation=nn.SiLU),
            ConvNorm(channels, _WIDTH, (1, 1), activation=nn.SiLU),
            ConvNorm(_WIDTH, _WIDTH, (1, _LOCAL_WINDOW), groups=_WIDTH, activation=nn.SiLU),
        ])  # fmt: skip
        self.svtr_block = nn.Sequential(*(TransformerBlock(_WIDTH, _HEADS) for _ in range(_BLOCKS)))
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        shortcut, reduced, local = self.conv_block
        mixed = reduced(x)
        mixed = mixed + local(mixed)
        tokens = self.norm(self.svtr_block(mixed.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).unsqueeze(2) + shortcut(x)


class Model(nn.Module):
    """Holds the backbone under the name the weight file uses."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)


class Head(nn.Module):
    """[N, 384, 1, T] to class logits [N, T, 18710]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Neck(_STAGES[-1][-1][1])
        self.head = nn.Linear(_WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).squeeze(2).transpose(1, 2))


class Recogniser(nn.Module):
    """Reads a line of text: image [N, 3, 48, W] in [-1, 1] to class logits [N, W/8, 18710] for CTC decoding."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.model(x))
