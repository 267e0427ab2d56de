"""Random weights must show errors: outputs depend on the input, on every batch norm, and rounding stays rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from hycompile import registry
from hycompile.models.family import Built
from hycompile.models.images import example_images
from hycompile.models.sane_weights import set_sane_weights
from hycompile.parity import relative_error
from tests.models.test_families import COVERAGE

SMALL = ("edgenext_xx_small", "efficientvit_m0", "levit_128s", "mobilevit_xxs", "shvit_s1", "test_coatnet")


def outputs(built: Built, image: Tensor) -> Tensor:
    with torch.no_grad():
        return built.module(image)


def check_sane(name: str) -> None:
    """Scale, spread over classes, dependence on the input, and rounding error of one model."""
    built = registry.family("timm").build(name)
    (image,) = built.args
    other = example_images(1, *image.shape[1:], seed=77)
    found, different = outputs(built, image), outputs(built, other)
    assert bool(found.isfinite().all())
    assert 0.1 < found.abs().max() < 100
    assert found.std() > 0.1
    assert (found - different).std() > 0.05 * found.std(), "the output hardly depends on the input"
    exact = outputs(Built(built.module.double(), ()), image.double())
    assert relative_error([found], [exact]) < 1e-5


@pytest.mark.parametrize("name", SMALL)
def test_small_hybrids_are_sane(name: str) -> None:
    check_sane(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COVERAGE if name != "PP-OCRv6"])
def test_the_coverage_list_is_sane(name: str) -> None:
    check_sane(name)


def test_every_batch_norm_matters() -> None:
    """A fold that flips one sign changes the output beyond any rounding (1e-4 is the parity tolerance)."""
    built = registry.family("timm").build("efficientvit_m0")
    (image,) = built.args
    reference = outputs(built, image)
    norms = [module for module in built.module.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) > 80
    for norm in norms:
        assert norm.running_mean is not None
        norm.running_mean.neg_()
        assert relative_error([outputs(built, image)], [reference]) > 1e-3
        norm.running_mean.neg_()


def test_the_same_seed_gives_the_same_model() -> None:
    first, second, third = (registry.family("timm").build("test_coatnet", seed=seed) for seed in (0, 0, 1))
    states = [built.module.state_dict() for built in (first, second, third)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(first.args[0], second.args[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert not torch.equal(first.args[0], third.args[0])


def test_building_leaves_torchs_own_generator_and_threads_alone() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    registry.family("timm").build("test_coatnet")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_layer_scales_and_zero_tables_are_brought_to_life() -> None:
    model = nn.Module()
    model.gamma = nn.Parameter(torch.full((8,), 1e-5))
    model.table = nn.Parameter(torch.zeros(4, 9))
    model.scale = nn.Parameter(torch.full((8,), 2.0))
    model.forward = lambda images: images  # type: ignore[method-assign]
    set_sane_weights(model, torch.zeros(1))
    gamma, table, scale = (tensor.detach() for tensor in model.parameters())
    assert bool(((gamma >= 0.25) & (gamma <= 0.75)).all())
    assert 0.1 < float(table.std()) < 0.5
    assert bool(((scale >= 1.0) & (scale <= 3.0)).all())


def test_a_batch_norm_fits_what_it_meets() -> None:
    """Mean within 5 spreads of the perturbation, variance within its factor: off, and by known amounts."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))
    images = example_images(4, 3, 32, 32)
    set_sane_weights(model, images)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        met = model[0](images)
    variance, mean = torch.var_mean(met, dim=(0, 2, 3), unbiased=False)
    variance = torch.maximum(variance, 0.2 * met.square().mean())
    assert bool(((norm.running_mean - mean).abs() <= 0.5 * variance.sqrt()).all())
    assert not torch.allclose(norm.running_mean, mean, rtol=1e-3)
    factor = norm.running_var / variance
    assert float(factor.min()) > 0.49
    assert float(factor.max()) < 1.51


def test_example_images_differ_in_more_than_noise() -> None:
    images = example_images(4, 3, 64, 64)
    assert torch.equal(images, example_images(4, 3, 64, 64))
    assert abs(float(images.std()) - 1) < 0.5
    blurred = nn.functional.avg_pool2d(images, 32)
    assert float((blurred[0] - blurred[1]).abs().mean()) > 0.2
