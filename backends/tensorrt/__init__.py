"""TensorRT and TensorRT-RTX engines, built from the ONNX backend's files."""

from __future__ import annotations

from hycompile.backends.tensorrt.backend import Tensorrt

__all__ = ["Tensorrt"]
