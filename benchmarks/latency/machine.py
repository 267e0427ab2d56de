"""What the model asks of the machine, and the most the machine gives: the two ends of a roofline."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from torch import nn

_SIZE, _REPEATS = 2048, 8


def gemm_peak_gflops() -> float:
    """The best of several float32 matrix products of 2048 x 2048 in torch, on the threads it is set to."""
    import torch

    left, right = torch.randn(_SIZE, _SIZE), torch.randn(_SIZE, _SIZE)
    out = torch.empty(_SIZE, _SIZE)
    times: list[float] = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        times.append(time.perf_counter() - start)
    return 2 * _SIZE**3 / min(times[1:]) / 1e9


def count_flops(module: nn.Module, args: tuple[Any, ...]) -> int:
    """Floating-point operations of convolutions and matrix products in one execution; a multiply-add counts as two."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter has no formula for the fused attention of the CPU; as matrix products it is counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*args)
    return int(counter.get_total_flops())


class Bystanders:
    """How many processors everything else on the machine kept busy since this was made, on average.

    Load averages cannot tell: they still hold what the run itself did a minute ago.
    """

    def __init__(self) -> None:
        self._start = _reading()

    def processors(self) -> float:
        """Time stolen by a host counts as busy; this process and its children do not."""
        wall, busy, own = (now - then for now, then in zip(_reading(), self._start, strict=True))
        return max(0.0, (busy - own) / wall)


def _reading() -> tuple[float, float, float]:
    """Seconds of wall time, of busy processors, and of CPU time of this process."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is in the users' already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return time.perf_counter(), sum(times) - idle - guests, sum(os.times()[:4])
