"""Numbers and structure of libraries built for the host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.artifact import Artifact
from hycompile.backends.tvm import Tvm
from hycompile.capture import capture
from hycompile.parity import execute, relative_error
from hycompile.program import Program
from hycompile.target import Target

Build = Callable[..., Artifact]
FP32 = 1e-5  # relative to the largest output: summation order and the polynomials of functions.py


def error(program: Program, artifact: Artifact, inputs: tuple[Tensor, ...] | None = None) -> float:
    """Error of the library against the program, relative to the largest output."""
    given = inputs or program.methods["forward"].flat_inputs()
    outputs = Tvm().open(artifact, threads=1).run(given)
    return relative_error(outputs, execute(program.methods["forward"], given).outputs)


def test_hybrid_is_scheduled_throughout_and_right(artifact: Artifact, hybrid: Callable[..., Program]) -> None:
    facts = artifact.manifest.facts
    assert facts["left_alone"] == {}
    # 3 convolutions, 3 linear maps, 2 products of the attention, the mean over tokens.
    assert facts["scheduled"]["contraction"] == 9  # type: ignore[index]
    assert facts["scheduled"]["row-wise"] == 2  # type: ignore[index]  # softmax, layer norm
    assert facts["relax_functions"] == 1
    assert facts["library_bytes"] == artifact.file("model").stat().st_size
    assert facts["mcpu"] != "host"
    assert error(hybrid(), artifact) < FP32


def test_two_threads_agree_with_one(artifact: Artifact, hybrid: Callable[..., Program]) -> None:
    inputs = hybrid().methods["forward"].flat_inputs()
    one = Tvm().open(artifact, threads=1).run(inputs)
    two = Tvm().open(artifact, threads=2).run(inputs)
    assert torch.equal(one[0], two[0])


def test_half_precision_takes_and_returns_the_programs_types(build: Build, hybrid: Callable[..., Program]) -> None:
    program = hybrid()
    artifact = build(program, "fp16")
    weights = load_file(artifact.file("weights"))
    assert {value.dtype for value in weights.values() if value.dim() > 1} == {torch.float16}
    assert error(program, artifact) < 2e-2
    (output,) = Tvm().open(artifact).run(program.methods["forward"].flat_inputs())
    assert output.dtype == torch.float32


def test_dynamic_batch_is_scheduled_too(build: Build, hybrid: Callable[..., Program]) -> None:
    program = hybrid(dynamic=True)
    artifact = build(program)
    assert artifact.manifest.methods["forward"].inputs[0].shape[1:] == (3, 28, 28)
    assert artifact.manifest.facts["left_alone"] == {}
    for batch in (1, 3, 8):
        assert error(program, artifact, (torch.randn(batch, 3, 28, 28),)) < FP32


class Geometry(nn.Module):
    """Convolutions and products whose sizes divide badly: 7 and 9 wide, 10, 24 and 33 channels, strides, dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(24, 10, 3, stride=2, padding=1),
                nn.Conv2d(24, 33, (1, 3), padding=(0, 1)),
                nn.Conv2d(24, 48, 3, dilation=2, groups=2),
                nn.Conv2d(24, 72, 5, padding=2, groups=24),
                nn.Conv2d(24, 160, 1, bias=False),
                nn.ConvTranspose2d(24, 8, 2, stride=2),
            ]
        )
        self.linear = nn.Linear(9, 130)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [F.hardswish(conv(x)) for conv in self.convs]
        pooled = F.avg_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, 3)
        return *maps, *pooled, self.linear(x), x @ x.transpose(-1, -2), x.softmax(1)


def test_geometry(build: Build) -> None:
    torch.manual_seed(0)
    program = capture(Geometry().eval(), (torch.randn(2, 24, 7, 9),), name="geometry")
    artifact = build(program)
    outputs = Tvm().open(artifact, threads=1).run(program.methods["forward"].flat_inputs())
    expected = execute(program.methods["forward"]).outputs
    assert len(outputs) == len(expected) == 12
    for index, (actual, reference) in enumerate(zip(outputs, expected, strict=True)):
        assert actual.shape == reference.shape, index
        assert relative_error([actual], [reference]) < FP32, index
    assert artifact.manifest.facts["scheduled"]["contraction"] >= 8  # type: ignore[index]


class Operators(nn.Module):
    """Operators the stock front end lacks or gets wrong; each is a separate output."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.groups = nn.BatchNorm1d(6, eps=0.5), nn.GroupNorm(1, 6)
        self.scaled, self.bare = nn.RMSNorm(8), nn.RMSNorm([6, 8], eps=0.3, elementwise_affine=False)
        self.several = nn.GroupNorm(3, 6)
        self.register_buffer("table", torch.tensor([2, -1, 0]))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        heads = x.unsqueeze(0)
        return (
            self.norm(x),
            self.groups(x),
            self.several(x),
            self.scaled(x * 1e-3),
            self.bare(x),
            x.amax(-1),
            x.amin((0, 2), keepdim=True),
            torch.div(x, 0.3, rounding_mode="floor"),
            torch.div(x, 2, rounding_mode="trunc"),
            x[:, self.table],
            x.clamp(max=3.1),
            torch.clamp(mask.long() * 5 - 2, min=0),
            torch.clamp(mask.long() * 5 - 2, -1, 2),
            torch.clamp(mask.long(), max=0.5),
            x.clamp(2.9, torch.inf),
            x[0, :, :6].masked_fill(mask, -torch.inf).exp(),
            x[..., :1].abs().squeeze(-1),
            x.select(1, -2),
            x.select(-1, 3),
            1 - x,
            torch.rsub(x, heads[0], alpha=3),
            F.scaled_dot_product_attention(x, x, x, scale=2.0),
            F.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask),
        )


def test_operators_the_front_end_lacks_or_mistakes(build: Build, host: Target) -> None:
    torch.manual_seed(0)
    module = Operators().eval()
    with torch.no_grad():
        module.norm.running_mean = 0.3 * torch.randn(6)
        module.groups.weight.copy_(torch.rand(6))
    mask = torch.rand(6, 6) > 0.4
    mask.fill_diagonal_(fill_value=True)
    program = capture(module, (torch.randn(2, 6, 8) + 3, mask), name="operators")
    assert Tvm().obstacles(program, host) == []
    outputs = Tvm().open(build(program), threads=1).run(program.methods["forward"].flat_inputs())
    expected = execute(program.methods["forward"]).outputs
    for index, (actual, reference) in enumerate(zip(outputs, expected, strict=True)):
        assert relative_error([actual], [reference]) < FP32, index


class Means(nn.Module):
    """Means of 32768 positive terms a channel, and along rows of 65536."""

    def forward(self, tokens: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return tokens.mean(1), image.mean((2, 3))


def test_long_means_do_not_drift(build: Build) -> None:
    torch.manual_seed(0)
    inputs = torch.rand(2, 32768, 24) + 1, torch.rand(1, 16, 128, 512) + 1
    program = capture(Means().eval(), inputs, name="means")
    outputs = Tvm().open(build(program), threads=1).run(inputs)
    exact = execute(program.methods["forward"], inputs, dtype=torch.float64).outputs
    assert relative_error(outputs[:1], exact[:1]) < 1e-6  # 5.3e-6 with a single accumulator a channel
    assert relative_error(outputs[1:], exact[1:]) < 5e-6


class HalfTraps(nn.Module):
    """What is right in float32 and infinite in naive float16: 1 / 1e-5, sums of squares, sums over an image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.group = nn.LayerNorm(1600), nn.GroupNorm(1, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = x.reshape(8, -1, 1600)
        zero = F.relu(-x.abs())
        return zero / (zero + 1e-5), self.norm(30 * rows), self.group(30 * x), (x + 3).mean((1, 2, 3)), x.softmax(-1)


def test_half_precision_sums_in_float32_and_divides(build: Build) -> None:
    torch.manual_seed(0)
    program = capture(HalfTraps().eval(), (torch.randn(1, 8, 100, 160),), name="half")
    outputs = Tvm().open(build(program, "fp16"), threads=1).run(program.methods["forward"].flat_inputs())
    expected = execute(program.methods["forward"]).outputs
    for index, (actual, reference) in enumerate(zip(outputs, expected, strict=True)):
        assert relative_error([actual], [reference]) < 5e-3, index


@pytest.mark.parametrize("name", ["weights", "interface", "model"])
def test_every_file_has_a_role(artifact: Artifact, name: str) -> None:
    assert artifact.file(name).is_file()
    assert "state" not in artifact.manifest.files
