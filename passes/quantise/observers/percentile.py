"""All but a few of the values that were seen."""

from __future__ import annotations

from torch import Tensor

from hycompile.passes.quantise.observers.sampled import Sampled

_KEPT = 0.9999


class Percentile(Sampled):
    """From the 0.01th to the 99.99th percentile of a sample: what lies outside is clipped.

    Source: Wu et al. 2020, "Integer Quantization for Deep Learning Inference", section 5.
    """

    def choose(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        ordered = sample.sort(1).values
        last = ordered.shape[1] - 1
        return ordered[:, round(last * (1 - _KEPT))], ordered[:, round(last * _KEPT)]
