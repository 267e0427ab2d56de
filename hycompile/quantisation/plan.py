"""The quantisation plan: which values of a Program are rounded, to what grid, and who chose it."""

from __future__ import annotations

from collections import Counter
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["activation", "weight"]


def bounds(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """The lowest and the highest number of a grid; a symmetric one leaves the lowest of its bits out."""
    return -(2 ** (bits - 1)) + symmetric, 2 ** (bits - 1) - 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuantisedValue(_Strict):
    """One value on a grid: ``scale * (q - zero_point)`` with whole ``q`` from ``low`` to ``high``.

    A dynamic one has the range of what comes: each row along the last axis (a token) gets its own scale and zero point
    as it is computed, asymmetric and of 8 bits, as XNNPACK's qd8 and torch's ``choose_qparams_per_token_asymmetric``.

    Args:
        method: of the Program.
        node: the node of the float graph whose value it is; a weight has the name of its tensor.
        role: what the value is to the layers that read it.
        bits: of the grid; stored in int8 whatever they are.
        symmetric: the zero point is 0, and the grid as long below as above it.
        axis: a scale for each index along this axis; None for one scale.
        observer: what chose the range: an observer, or the search that changed its choice.
        scale: as float32 holds them: one, one per channel, or one per group, group by group along each channel; those
            of groups are bfloat16 numbers, as runtimes store them. None for a dynamic value.
        zero_point: within the grid, since every range holds 0; as many as scales.
        group: of a weight [out, in] with ``axis`` 0: a scale for each so many values along the inputs.
        dynamic: the range is found at run time.
    """

    method: str
    node: str
    role: Role
    bits: int = Field(ge=2, le=8)
    symmetric: bool
    axis: int | None
    observer: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    group: int | None = Field(default=None, ge=2)
    dynamic: bool = False

    @property
    def low(self) -> int:
        return bounds(self.bits, symmetric=self.symmetric)[0]

    @property
    def high(self) -> int:
        return bounds(self.bits, symmetric=self.symmetric)[1]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.group is not None and (self.role != "weight" or self.axis != 0):
            raise ValueError(f"{self.node}: groups are those of a weight's output channels, its axis 0")
        if self.dynamic and (self.role, self.bits, self.symmetric, self.axis) != ("activation", 8, False, None):
            raise ValueError(f"{self.node}: a dynamic value is an activation of 8 bits, asymmetric, without an axis")
        fits = bool(self.scale) if self.axis is not None else len(self.scale) == (not self.dynamic)
        if len(self.scale) != len(self.zero_point) or not fits:
            raise ValueError(f"{self.node}: {len(self.scale)} scales, {len(self.zero_point)} zero points")
        if not all(scale > 0 for scale in self.scale):
            raise ValueError(f"{self.node}: a scale that is not positive")
        if not all(self.low <= point <= self.high for point in self.zero_point):
            raise ValueError(f"{self.node}: a zero point outside {self.low}..{self.high}")
        return self


class KeptLayer(_Strict):
    """A layer that stays in float, by its node, and why."""

    method: str
    node: str
    reason: str


class LayerNoise(_Strict):
    """Signal-to-noise ratio at the output of one layer, dB: the noise is all that was rounded up to there."""

    method: str
    node: str
    sqnr: float


class Comparison(_Strict):
    """One Program beside another on some calls; no accuracy, for these have no labels.

    Args:
        calls: how many.
        output_sqnr: signal-to-noise ratio over all outputs and calls, dB; 300 where nothing differs.
        worst_error: the largest error of one call, relative to its largest output.
        agreement: share of rows of the first output whose largest entry is in the same place, percent.
        layers: in graph order.
    """

    calls: int
    output_sqnr: float
    worst_error: float
    agreement: float
    layers: tuple[LayerNoise, ...] = ()

    def worst(self, count: int) -> list[LayerNoise]:
        """The layers with the lowest ratio."""
        return sorted(self.layers, key=lambda layer: layer.sqnr)[:count]


class LayerSensitivity(_Strict):
    """What rounding one layer does to the outputs, as signal-to-noise ratios in dB.

    Args:
        method: of the layer.
        node: the layer; the first of those that share its weight.
        alone: where only this layer is rounded, all others in float.
        without: where every layer but this one is rounded.
        kept: what it was given in the end, ``float`` or ``8 bits``; empty if it is rounded as the others.
    """

    method: str
    node: str
    alone: float
    without: float
    kept: str = ""


class Sensitivity(_Strict):
    """Every layer on its own, on a few calls of the calibration set.

    Args:
        calls: how many.
        together: signal-to-noise ratio of the outputs on these calls, dB, with every layer rounded.
        layers: in graph order.
    """

    calls: int
    together: float
    layers: tuple[LayerSensitivity, ...]

    def worst(self, count: int) -> list[LayerSensitivity]:
        """The layers that do most harm alone, among those that are rounded as the others."""
        return sorted((layer for layer in self.layers if not layer.kept), key=lambda layer: layer.alone)[:count]

    def blame(self, count: int = 3) -> str:
        """The layers that do most harm, in words."""
        told = (f"{layer.node} ({layer.alone:.1f} dB if it alone is rounded)" for layer in self.worst(count))
        return f"layers to blame: {', '.join(told)}"


class QuantPlan(_Strict):
    """What is quantised in a Program and what is not; ``model_dump_json`` and ``model_validate_json`` are its file.

    Biases have no grid of their own: as every runtime does, they are rounded to the grid of the sums they are added to,
    whose scale is the input's times the weight's, in 32 bits.

    Args:
        values: in float32 the same in every runtime.
        kept: layers left in float.
        measured: the quantised Program beside the float model on the calibration set.
        sensitivity: every layer on its own; None if that was not measured.
    """

    values: tuple[QuantisedValue, ...]
    kept: tuple[KeptLayer, ...] = ()
    measured: Comparison | None = None
    sensitivity: Sensitivity | None = None

    def of(self, method: str, node: str) -> QuantisedValue | None:
        """The grid of a node's value or of a weight; None if it stays in float."""
        return next((value for value in self.values if (value.method, value.node) == (method, node)), None)

    def summary(self) -> dict[str, int]:
        """Counts for reports: ``weights of 8 bits``, ``dynamic activations of 8 bits``, ``layers in float``."""
        counts = Counter(
            f"{'dynamic ' * value.dynamic}{value.role}s of {value.bits} bits{' in groups' * (value.group is not None)}"
            for value in self.values
        )
        return dict(counts) | {"layers in float": len(self.kept)}
