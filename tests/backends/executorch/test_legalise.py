"""What stock ExecuTorch 1.5.1 gets wrong without an error: weights, clamps, softmax, tanh GELU, float16 sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.quiet import quiet_executorch
from hycompile.capture import capture
from hycompile.parity import relative_error
from hycompile.program import Program
from tests.high_ranks import FORMS, Applied

Build = Callable[..., Artifact]


def _norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    channels = norm.num_features
    norm.running_mean, norm.running_var = 0.1 * torch.randn(channels), 0.5 + torch.rand(channels)
    norm.weight.data, norm.bias.data = 0.5 + torch.rand(channels), 0.1 * torch.randn(channels)
    return norm


def _tied_conv2d() -> tuple[nn.Module, Tensor]:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    return nn.Sequential(conv, _norm(nn.BatchNorm2d(8)), nn.ReLU(), conv, _norm(nn.BatchNorm2d(8))), torch.randn(
        1, 8, 9, 9
    )


def _tied_linear() -> tuple[nn.Module, Tensor]:
    linear = nn.Linear(8, 8)
    return nn.Sequential(linear, _norm(nn.BatchNorm1d(8)), nn.ReLU(), linear, _norm(nn.BatchNorm1d(8))), torch.randn(
        3, 8
    )


def _tied_conv1d() -> tuple[nn.Module, Tensor]:
    conv = nn.Conv1d(8, 8, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), conv), torch.randn(1, 8, 9)


def _equal_biases() -> tuple[nn.Module, Tensor]:
    """Initialised to zero, as many libraries do: equal constants share storage in a Program."""
    first, second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    for conv in (first, second):
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(first, _norm(nn.BatchNorm2d(8)), second, _norm(nn.BatchNorm2d(8))), torch.randn(1, 8, 9, 9)


class _Halves(nn.Module):
    """A convolution and a linear whose weights are the second halves of larger tensors."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in (("kernel", (16, 8, 3, 3)), ("matrix", (16, 9))):
            self.register_buffer(name, torch.randn(shape)[8:])

    def forward(self, x: Tensor) -> Tensor:
        image = functional.conv2d(x, self.get_buffer("kernel"), padding=1)
        return functional.linear(image, self.get_buffer("matrix"))


def _halves() -> tuple[nn.Module, Tensor]:
    return _Halves(), torch.randn(1, 8, 9, 9)


def _two_clamps() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Hardtanh(-0.3, 0.3)), torch.randn(1, 8, 9, 9)


def _three_clamps() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(9, 9), nn.Hardtanh(-0.2, 0.5), nn.ReLU(), nn.ReLU6()), torch.randn(3, 9)


@pytest.mark.parametrize(
    "make", [_tied_conv2d, _tied_linear, _tied_conv1d, _equal_biases, _halves, _two_clamps, _three_clamps]
)
def test_weights_and_clamps_are_right(build: Build, make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    torch.manual_seed(0)
    model, x = make()
    model.eval().requires_grad_(False)
    session = Executorch().open(build(capture(model, (x,))))
    assert relative_error(session.run([x]), [model(x)]) < 1e-5


@pytest.mark.parametrize("make", [_tied_conv2d, _halves, _two_clamps])
def test_stock_lowering_is_wrong(make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    """The day one fails, ExecuTorch is mended there, and its part of ``legalise.py`` can go."""
    torch.manual_seed(0)
    model, x = make()
    model.eval().requires_grad_(False)
    with quiet_executorch():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        exported = torch.export.export(model, (x,))
        stock = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        method = Runtime.get().load_program(stock.buffer).load_method("forward")
    assert method is not None
    assert relative_error(list(method.execute([x])), [model(x)]) > 1e-2


def test_copies_cost_no_space(build: Build) -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(1, 64, 6, 6)
    once = build(capture(nn.Sequential(conv, nn.ReLU()).eval(), (x,)))
    thrice = build(capture(nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), conv).eval(), (x,)))
    assert thrice.size_bytes < 1.1 * once.size_bytes


class _TalkingHeads(nn.Module):
    """EfficientFormerV2's attention: 1x1 convolutions over the heads on both sides of the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, scores: Tensor) -> Tensor:
        return self.after(self.before(scores).softmax(-1))


def _flattened(program: Program) -> int:
    with quiet_executorch():
        from hycompile.backends.executorch.legalise import flatten_softmax

        return flatten_softmax(program)


def test_softmax_behind_a_convolution_is_right(build: Build) -> None:
    torch.manual_seed(0)
    model, scores = _TalkingHeads().eval().requires_grad_(False), torch.randn(1, 4, 9, 7)
    program = capture(model, (scores,))
    assert _flattened(program.copy()) == 1
    session = Executorch().open(build(program))
    assert relative_error(session.run([scores]), [model(scores)]) < 1e-5


def test_softmax_over_other_axes_is_left_alone() -> None:
    program = capture(nn.Softmax(1).eval(), (torch.randn(1, 4, 9, 7),))
    assert _flattened(program) == 0


def test_softmax_with_a_dynamic_batch(build: Build) -> None:
    model = _TalkingHeads().eval().requires_grad_(False)
    batch = torch.export.Dim("batch", min=1, max=4)
    session = Executorch().open(build(capture(model, (torch.randn(2, 4, 9, 7),), dynamic_shapes=({0: batch},))))
    for size in (1, 4, 3):
        scores = torch.randn(size, 4, 9, 7)
        assert relative_error(session.run([scores]), [model(scores)]) < 1e-5


class _Attended(nn.Module):
    """Attention whose heads are reshaped away at once, as passes leave it for a single token."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, seen).reshape(1, 1, 32)


def test_attention_may_be_reshaped_at_once(build: Build) -> None:
    shapes = (1, 2, 2, 8), (1, 2, 6, 8), (1, 2, 6, 8)
    inputs = *(torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes), torch.ones(2, 6) > 0
    program = capture(_Attended().eval(), inputs)
    assert relative_error(Executorch().open(build(program)).run(inputs), [_Attended()(*inputs)]) < 1e-5


def test_gelu_keeps_its_tanh_form(build: Build) -> None:
    model, x = (
        nn.Sequential(nn.Linear(8, 8), nn.GELU(approximate="tanh")).eval(),
        torch.linspace(-4, 4, 64).reshape(8, 8),
    )
    nn.init.eye_(model[0].weight)  # type: ignore[arg-type]
    reference = model.requires_grad_(False)(x)
    assert relative_error([nn.functional.gelu(model[0](x))], [reference]) > 5e-5
    artifact = build(capture(model, (x,)))
    assert artifact.manifest.facts["outside"] == {}
    assert relative_error(Executorch().open(artifact).run([x]), [reference]) < 2e-6


class _Reductions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.groups = nn.LayerNorm(304), nn.GroupNorm(4, 304)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.norm(x), x.var(-1), x.cumsum(0), self.groups(400 * x)


def test_reductions_are_wide_in_half_precision(build: Build) -> None:
    """Stock kernels: relative errors of 7 (layer norm), 7e-2 (variance) and 1e-2 (cumulative sum)."""
    torch.manual_seed(0)
    model, x = _Reductions().eval().requires_grad_(False), torch.randn(1000, 304) + 1
    session = Executorch().open(build(capture(model, (x,)), precision="fp16"))
    for output, reference in zip(session.run([x]), model(x), strict=True):
        assert relative_error([output], [reference]) < 1e-3


def test_group_norm_of_many_values_does_not_drift(build: Build) -> None:
    """The portable kernel, which adds 262144 values in a row, is off by 1e-4 here."""
    torch.manual_seed(0)
    model, x = nn.GroupNorm(1, 64).eval().requires_grad_(False), torch.randn(1, 64, 4, 1024) + 2
    nn.init.uniform_(model.weight, 0.5, 1.5)
    artifact = build(capture(model, (x,)))
    exact = model.double()(x.double())
    assert relative_error(Executorch().open(artifact).run([x]), [exact]) < 1e-6
    assert "native_group_norm" not in str(artifact.manifest.facts["outside"])


def test_ten_dimensions_are_computed_in_six(build: Build) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 12, 12, 5)
    program = capture(Applied(FORMS["nested_windows"]).eval(), (x,))
    artifact = build(program)
    assert artifact.manifest.facts["outside"] == {"repeat": 1}
    assert relative_error(Executorch().open(artifact).run([x]), [FORMS["nested_windows"](x)]) == 0


def test_stock_lowering_of_ten_dimensions_cannot_be_loaded() -> None:
    """The day this fails, XNNPACK has more dimensions, or its partitioner knows that it has not."""
    x = torch.randn(4, 12, 12, 5)
    with quiet_executorch():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        exported = torch.export.export(Applied(FORMS["nested_windows"]).eval(), (x,))
        stock = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        with pytest.raises(RuntimeError):
            Runtime.get().load_program(stock.buffer).load_method("forward")


def test_larger_inputs_stay_outside(build: Build) -> None:
    """A dimension too many that no rewrite can take away: portable kernels run it, and the report says why."""
    x = torch.randn(1, 2, 1, 2, 3, 2, 4)
    program = capture(Applied(lambda x: torch.relu(x * 2).permute(6, 5, 4, 3, 2, 1, 0).sum(-1)).eval(), (x,))
    artifact = build(program)
    facts = artifact.manifest.facts
    assert "XNNPACK has tensors of at most 6 dimensions" in str(facts["reasons"])
    expected = (2 * x).relu().permute(6, 5, 4, 3, 2, 1, 0).sum(-1)
    assert relative_error(Executorch().open(artifact).run([x]), [expected]) < 1e-6
