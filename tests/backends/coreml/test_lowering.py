"""Programs to packages and back through the interpreter: structure, names, types and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hycompile as hy
from hycompile.artifact import Artifact
from hycompile.backends.coreml import Coreml
from hycompile.capture import Call
from hycompile.errors import Unsupported
from hycompile.parity import execute, relative_error
from hycompile.program import Program

Lower = Callable[..., Artifact]
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3}


class Hybrid(nn.Module):
    """Convolution, attention over its positions, a pooled head."""

    def __init__(self, act: str = "none") -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.qkv, self.head, self.act = nn.Linear(16, 48), nn.Linear(16, 5), act
        self.norm.running_mean = 0.1 * torch.randn(16)
        self.norm.running_var = torch.rand(16) + 0.5

    def forward(self, image: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.stem(image)), approximate=self.act)
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).reshape(1, -1, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((tokens + mixed).mean(1))


def _errors(program: Program, artifact: Artifact) -> list[float]:
    session = Coreml().open(artifact)
    found: list[float] = []
    for name, method in program.methods.items():
        inputs = method.flat_inputs()
        results = session.run(inputs, name)
        reference = execute(method, inputs).outputs
        assert [value.dtype for value in results] == [value.dtype for value in reference]
        found.append(relative_error(results, reference))
    return found


@pytest.fixture
def hybrid() -> Program:
    torch.manual_seed(0)
    return hy.capture(Hybrid().eval(), (torch.randn(1, 3, 16, 16),))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_hybrid_is_proved(hybrid: Program, lower_coreml: Lower, precision: str) -> None:
    artifact = lower_coreml(hybrid, precision=precision)
    assert max(_errors(hybrid, artifact)) < TOLERANCE[precision]
    facts: Any = artifact.manifest.facts
    assert facts["inputs"] == {"forward": ["image"]}
    assert facts["outputs"] == {"forward": list(hybrid.methods["forward"].output_names())}
    assert facts["operators"]["conv"] == 1
    assert (facts["runner"], facts["deployment_target"], facts["precision"]) == (
        "reference interpreter",
        "iOS18",
        precision,
    )
    assert facts["weight_bytes"] < artifact.size_bytes


def test_half_is_half_the_size(hybrid: Program, lower_coreml: Lower) -> None:
    sizes: Any = {p: lower_coreml(hybrid, precision=p).manifest.facts["weight_bytes"] for p in ("fp32", "fp16")}
    assert sizes["fp16"] < 0.75 * sizes["fp32"]


@pytest.mark.parametrize("target", ["iOS15", "macOS13", "iOS17"])
def test_older_targets(hybrid: Program, lower_coreml: Lower, target: str) -> None:
    assert max(_errors(hybrid, lower_coreml(hybrid, deployment_target=target))) < 1e-5


def test_tanh_gelu_is_not_taken_for_the_exact_one(lower_coreml: Lower) -> None:
    """coremltools drops the keyword without a word: the two differ by 3e-4 and more."""
    torch.manual_seed(0)
    program = hy.capture(Hybrid("tanh").eval(), (torch.randn(1, 3, 16, 16),))
    artifact = lower_coreml(program)
    assert artifact.manifest.facts["rewrites"] == {"expand_gelu_tanh": 1}
    assert max(_errors(program, artifact)) < 1e-5


def test_reciprocals_of_small_values(lower_coreml: Lower) -> None:
    """coremltools converts them to 1 / (x + 1e-4)."""

    class Reciprocal(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reciprocal()

    x = torch.tensor([[1e-4, -2e-3, 0.5, 90.0]])
    program = hy.capture(Reciprocal().eval(), (x,))
    computed = Coreml().open(lower_coreml(program)).run((x,))[0]
    assert (computed * x - 1).abs().max() < 1e-6


def test_zeros_of_another_type(lower_coreml: Lower) -> None:
    """coremltools makes them of the type of what they are like, here logic, and -inf becomes true."""

    class Mask(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = x > 0
            return x + torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, -5.0)

    x = torch.tensor([[1.0, -2.0, 3.0]])
    program = hy.capture(Mask().eval(), (x,))
    assert Coreml().open(lower_coreml(program)).run((x,))[0].tolist() == [[1.0, -7.0, 3.0]]


def test_half_program_keeps_its_interface(hybrid: Program, lower_coreml: Lower) -> None:
    half = hybrid.to(torch.float16)
    artifact = lower_coreml(half, precision="fp16")
    assert artifact.manifest.methods["forward"].inputs[0].dtype == "float16"
    assert max(_errors(half, artifact)) < TOLERANCE["fp16"]


class Products(nn.Module):
    """Every combination of vector and matrix operands."""

    def forward(self, m: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return m @ v, v @ m, v @ v, m @ m


def test_products_with_vectors(lower_coreml: Lower) -> None:
    program = hy.capture(Products().eval(), (torch.randn(3, 4, 4), torch.randn(4)))
    artifact = lower_coreml(program)
    assert artifact.manifest.facts["rewrites"]["matrix_operands"] >= 2  # type: ignore[index]
    assert max(_errors(program, artifact)) < 1e-5


class Bounds(nn.Module):
    """Indices held within bounds, as by a ring of slots; floats keep coremltools' own clamp."""

    def forward(self, x: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        picked = x.index_select(1, index.clamp(0, 4)) + x.index_select(1, index.clamp(max=3).abs())
        floors = torch.div(index * 1001, 7, rounding_mode="floor") % 5
        return picked, index.clamp(min=1), x.clamp(-0.1, 0.2), x.index_select(1, floors)


def test_bounds_of_integers(lower_coreml: Lower) -> None:
    program = hy.capture(Bounds().eval(), (torch.randn(3, 5), torch.tensor([7, -2, 3])))
    artifact = lower_coreml(program)
    assert artifact.manifest.facts["rewrites"] == {"bound_integers": 3, "divide_integers": 1}
    assert max(_errors(program, artifact)) < 1e-6


class Logic(nn.Module):
    """Booleans and integers by the operators of Python, and a mask whose row is looked up."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.ones(4, 4, dtype=torch.bool).tril())

    def forward(self, x: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        high, low = x > 0.5, x < -0.5
        rows = self.seen.index_select(0, row)
        return torch.where((high | low) & ~rows, x, 0 * x), rows ^ self.seen[row], self.seen.gather(1, row.expand(4, 2))


def test_logic_of_booleans(lower_coreml: Lower) -> None:
    program = hy.capture(Logic().eval(), (torch.randn(2, 4), torch.tensor([1, 2])))
    artifact = lower_coreml(program)
    assert artifact.manifest.facts["rewrites"] == {"name_logic": 4, "gather_integers": 3}
    assert _errors(program, artifact) == [0.0]


class Types(nn.Module):
    """Integer, boolean and scalar inputs and outputs; an input, a constant and one value twice among the outputs."""

    def forward(self, x: Tensor, index: Tensor, keep: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        picked = x.index_select(1, index) * scale
        return x, picked, picked, keep & (x[:2, 0] > 0), index + 1, scale * 2


def test_interface_types_and_repeated_outputs(lower_coreml: Lower) -> None:
    inputs = (torch.randn(3, 5), torch.tensor([4, 1]), torch.tensor([True, True]), torch.tensor(2.0))
    program = hy.capture(Types().eval(), inputs)
    artifact = lower_coreml(program)
    assert artifact.manifest.facts["rewrites"] == {"name_logic": 1, "separate_outputs": 2}
    assert artifact.manifest.facts["outputs"]["forward"][0] == "x_out"  # type: ignore[index]
    assert _errors(program, artifact) == [0.0]


class Overflowing(nn.Module):
    """A ratio whose terms leave the 16-bit range, as in linear attention."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.relu(self.project(x)) * 4000 + 1
        return (weights * x).sum(-1) / weights.sum(-1)


def test_wide_values_stay_in_32_bits(lower_coreml: Lower) -> None:
    torch.manual_seed(0)
    program = hy.capture(Overflowing().eval(), (8 * torch.randn(4, 8),))
    artifact = lower_coreml(program, precision="fp16")
    kept: Any = artifact.manifest.facts["kept_in_fp32"]
    assert kept["forward"]
    assert max(_errors(program, artifact)) < TOLERANCE["fp16"]


class TwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x))

    def twice(self, x: Tensor) -> Tensor:
        return self.body(self.body(x))


def test_several_methods_share_their_weights(lower_coreml: Lower) -> None:
    torch.manual_seed(0)
    model, x = TwoWays().eval(), torch.randn(2, 64)
    one = hy.capture(model, (x,))
    two = hy.capture(model, methods={"once": Call((x,)), "twice": Call((x,), function="twice")})
    artifact = lower_coreml(two)
    assert artifact.manifest.facts["functions"] == {"once": "once", "twice": "twice"}
    single, both = (lower_coreml(p).manifest.facts["weight_bytes"] for p in (one, two))
    assert both < 1.2 * single  # type: ignore[operator]
    assert max(_errors(two, artifact)) < 1e-5
    with pytest.raises(Unsupported, match="several methods: several functions in a package need iOS18"):
        lower_coreml(two, deployment_target="iOS17")


def test_dynamic_batch(lower_coreml: Lower) -> None:
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=1, max=8)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()
    program = hy.capture(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    session = Coreml().open(lower_coreml(program))
    for size in (1, 5):
        x = torch.randn(size, 3, 8, 8)
        assert relative_error(session.run((x,)), (model(x),)) < 1e-5


def test_unknown_deployment_target(hybrid: Program, lower_coreml: Lower) -> None:
    with pytest.raises(
        Unsupported, match=r"coreml.deployment_target 'iOS99': coremltools has no such target; one of .*iOS18"
    ):
        lower_coreml(hybrid, deployment_target="iOS99")
