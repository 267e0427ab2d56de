"""Functions of one value that XNNPACK computes on whole numbers, and its partitioner knows in float only."""

from __future__ import annotations

from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.config.generic_node_configs import (
    GeluConfig,
    HardswishConfig,
    SigmoidConfig,
    TanhConfig,
)
from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType, XNNPartitionerConfig


class _OnWholeNumbers:
    """For any function of int8 without a kernel of its own XNNPACK makes a table (``unary-elementwise-nc.c``)."""

    def supported_precision_types(self) -> list[ConfigPrecisionType]:
        return [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]


class _Sigmoid(_OnWholeNumbers, SigmoidConfig):
    pass


class _Tanh(_OnWholeNumbers, TanhConfig):
    pass


class _Gelu(_OnWholeNumbers, GeluConfig):
    pass


class _Hardswish(_OnWholeNumbers, HardswishConfig):
    pass


_MORE: tuple[type[XNNPartitionerConfig], ...] = (_Sigmoid, _Tanh, _Gelu, _Hardswish)
# The stock entries, these in place of theirs.
CONFIGS: list[type[XNNPartitionerConfig]] = [
    next((more for more in _MORE if issubclass(more, config)), config) for config in ALL_PARTITIONER_CONFIGS
]
