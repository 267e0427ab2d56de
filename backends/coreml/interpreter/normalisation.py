"""Normalisation layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import channelwise, ints, operator


@operator("batch_norm")
def batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta; x [N, C, *D], the others [C]."""
    normal = (x - channelwise(mean, x)) * torch.rsqrt(channelwise(variance, x) + epsilon)
    return _affine(normal, gamma, beta)


@operator("instance_norm")
def instance_norm(x: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    """Each channel of each image to zero mean and unit variance; x [N, C, *D]."""
    return _affine(_standardise(x, list(range(2, x.dim())), epsilon), gamma, beta)


@operator("layer_norm")
def layer_norm(
    x: Tensor, axes: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """Zero mean and unit variance over ``axes``; gamma and beta have the shape of those axes."""
    over = sorted(axis % x.dim() for axis in ints(axes))
    shape = [x.shape[axis] if axis in over else 1 for axis in range(x.dim())]
    normal = _standardise(x, over, epsilon)
    normal = normal if gamma is None else normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


@operator("l2_norm")
def l2_norm(x: Tensor, epsilon: Tensor) -> Tensor:
    """x over the root of its sum of squares (plus epsilon) over the last three dimensions."""
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


@operator("local_response_norm")
def local_response_norm(x: Tensor, size: Tensor, alpha: Tensor, beta: Tensor, k: Tensor) -> Tensor:
    """x / (k + alpha / size * sum of squares over ``size`` neighbouring channels)^beta."""
    return F.local_response_norm(x, int(size), float(alpha), float(beta), float(k))


def _standardise(x: Tensor, axes: list[int], epsilon: Tensor) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def _affine(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    x = x if gamma is None else x * channelwise(gamma, x)
    return x if beta is None else x + channelwise(beta, x)
