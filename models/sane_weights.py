"""Random weights on which a wrong rewrite shows: every parameter matters, and no activation explodes or dies.

Freshly initialised networks hide errors. Layer scales of 1e-5 silence whole branches, zero biases and unit
batch-norm statistics make a wrong fold invisible, attention over tiny logits is a plain average. Statistics drawn
without looking at the data are no better: on timm's hybrids they gave outputs that did not depend on the input
(relative difference 7e-7 between two images on nextvit_small) or grew to 1e17 (mobileone_s0).

Whoever changes the weights raises ``weights_revision.REVISION``.
"""

from __future__ import annotations

from collections.abc import Generator as Yields
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd as Conv  # pyright: ignore[reportPrivateUsage]
from torch.utils.hooks import RemovableHandle

# Batch norm: scale and shift that keep most, not all, of a ReLU's inputs positive. With zero shift, rounding errors
# grow 1.2 times a layer (Yang et al. 2019, "A mean field theory of batch normalization"): float16 fails on depth alone.
_NORM_SCALE, _NORM_SHIFT, _NORM_SHIFT_SPREAD = 0.6, 0.35, 0.25
_BRANCH_SCALE = 0.1
# Share of a spatial kernel that is constant over its window: trained kernels pass low frequencies, white ones do not.
_SMOOTH = 0.8
_DEPTHWISE_GAIN = 0.3
# A channel's variance is at least this share of its layer's mean power, so that no dead channel is blown up.
_VARIANCE_FLOOR = 0.2


def set_sane_weights(model: nn.Module, images: Tensor, seed: int = 0) -> None:
    """Give ``model`` seeded random weights and batch-norm statistics that suit them, in place.

    - convolution and linear weights: normal, standard deviation ``1/sqrt(fan_in)``, so that scale is kept and
      attention logits have unit scale; spatial kernels are mostly smooth;
    - parameters that start at zero (biases, attention-bias tables): normal, 0.1 for vectors and 0.3 for tables;
    - parameters that start at another constant (norm weights, layer scales): uniform 0.5 to 1.5 times that constant,
      or times 0.5 where it is smaller than 0.1;
    - batch norm: weight uniform 0.3 to 0.9 (0.05 to 0.15 where the model's recipe starts it at zero), bias normal
      0.35 +- 0.25; mean off the true one by 0.1 standard deviations and variance by a factor uniform in 0.5 to 1.5,
      measured on ``images`` [N, C, H, W] in one forward pass in evaluation mode.

    That pass also fills the attention-bias caches some models keep in evaluation mode. One thread and seeded
    generators make the result the same in every process on one machine.
    """
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    with torch.no_grad(), _one_thread():
        for module in model.modules():
            if isinstance(module, Conv):
                _fill_kernel(module, generator)
            elif isinstance(module, nn.Linear):
                module.weight.copy_(_normal(module.weight.shape, generator) * module.in_features**-0.5)
            elif isinstance(module, BatchNorm) and module.affine:
                _fill_batch_norm(module, generator)
        _fill_the_rest(model, generator)
        _fit_batch_norms(model, images, generator)


def _normal(shape: torch.Size | tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _fill_batch_norm(norm: BatchNorm, generator: Generator) -> None:
    """A norm that starts at zero ends a residual branch: it stays weak, or the sum of branches grows without bound."""
    scale = _NORM_SCALE if bool(norm.weight.any()) else _BRANCH_SCALE
    norm.weight.copy_(scale * (0.5 + torch.rand(norm.weight.shape, generator=generator)))
    norm.bias.copy_(_NORM_SHIFT + _NORM_SHIFT_SPREAD * _normal(norm.bias.shape, generator))


def _fill_the_rest(model: nn.Module, generator: Generator) -> None:
    """Replace every parameter that is still one constant; what a model's own recipe drew at random stays."""
    for parameter in model.parameters():
        first = float(parameter.detach().flatten()[0]) if parameter.numel() else 0.0
        if not bool((parameter == first).all()):
            continue
        if first == 0:
            parameter.copy_(_normal(parameter.shape, generator) * (0.1 if parameter.ndim == 1 else 0.3))
        else:
            uniform = 0.5 + torch.rand(parameter.shape, generator=generator)
            parameter.copy_(uniform * (first if abs(first) >= 0.1 else 0.5))


def _fill_kernel(conv: Conv, generator: Generator) -> None:
    """Gain 1 for smooth inputs, less for rough ones; a depthwise kernel gets less still.

    Depthwise convolutions stand unnormalised on residual paths (``x + conv(x)``, conditional position encoding): with
    gain 1 a stack of them grows exponentially.
    """
    weight, window = conv.weight, conv.weight[0, 0].numel()
    constant = _normal((*weight.shape[:2], *[1] * (weight.ndim - 2)), generator)
    share = _SMOOTH if window > 1 else 0.0
    kernel = share * constant + (1 - share**2) ** 0.5 * _normal(weight.shape, generator)
    smooth_gain = (share**2 * window + 1 - share**2) ** 0.5
    depthwise = conv.groups > 1 and weight.shape[1] == 1
    weight.copy_(kernel * (_DEPTHWISE_GAIN if depthwise else 1.0) / (weight[0].numel() ** 0.5 * smooth_gain))


def _fit_batch_norms(model: nn.Module, images: Tensor, generator: Generator) -> None:
    """Set each batch norm's statistics from the first input it meets, off by known amounts, in one forward pass."""
    handles: list[RemovableHandle] = []

    def fit(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, BatchNorm)
        if norm.running_mean is None or norm.running_var is None or id(norm) in fitted:
            return
        fitted.add(id(norm))
        mean, variance = _statistics(inputs[0])
        off = 0.1 * torch.randn(mean.shape, generator=generator)
        factor = 0.5 + torch.rand(mean.shape, generator=generator)
        norm.running_mean.copy_(mean + off * variance.sqrt())
        norm.running_var.copy_(variance * factor)

    fitted: set[int] = set()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            handles.append(module.register_forward_pre_hook(fit))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()


def _statistics(value: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance per channel [C] of a value [N, C, ...]."""
    over = [axis for axis in range(value.ndim) if axis != 1]
    variance, mean = torch.var_mean(value, dim=over, unbiased=False)
    floor = _VARIANCE_FLOOR * value.square().mean() + 1e-6
    return mean, torch.maximum(variance, floor)


@contextmanager
def _one_thread() -> Yields[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
