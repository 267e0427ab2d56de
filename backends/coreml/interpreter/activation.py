"""Activations, after the formulas of coremltools' operator definitions (iOS15 and iOS17)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hycompile.backends.coreml.interpreter.registry import channelwise, operator


@operator("relu")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@operator("relu6")
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return F.relu6(x)


@operator("clamped_relu")
def clamped_relu(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """min(beta, x) where x >= 0, min(beta, alpha x) elsewhere."""
    return torch.minimum(torch.where(x >= 0, x, alpha * x), beta)


@operator("leaky_relu")
def leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x >= 0, alpha x elsewhere."""
    return torch.where(x >= 0, x, alpha * x)


@operator("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, alpha[c] x elsewhere; x [B, C, ...], alpha [C]."""
    return torch.where(x > 0, x, channelwise(alpha, x) * x)


@operator("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x >= alpha, 0 elsewhere."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@operator("elu")
def elu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, alpha (e^x - 1) elsewhere."""
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@operator("gelu")
def gelu(x: Tensor, mode: str) -> Tensor:
    """x times the normal distribution function, exact or approximated by tanh or by sigmoid(1.702 x)."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@operator("silu")
def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return F.silu(x)


@operator("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return torch.sigmoid(x)


@operator("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """min(max(alpha x + beta, 0), 1)."""
    return torch.clamp(alpha * x + beta, 0, 1)


@operator("linear_activation")
def linear_activation(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha x + beta."""
    return alpha * x + beta


@operator("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha tanh(beta x)."""
    return alpha * torch.tanh(beta * x)


@operator("softplus")
def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x)."""
    return torch.logaddexp(x, torch.zeros_like(x))


@operator("softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha[c] log(1 + e^(beta[c] x)); x [B, C, ...]."""
    return channelwise(alpha, x) * softplus(channelwise(beta, x) * x)


@operator("softsign")
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return F.softsign(x)


@operator("softmax")
def softmax(x: Tensor, axis: Tensor) -> Tensor:
    """e^x over its sum along ``axis``."""
    return torch.softmax(x, int(axis))
