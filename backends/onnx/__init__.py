"""ONNX files for ONNX Runtime and for every parser that starts from ONNX; state is explicit."""

from __future__ import annotations

from hycompile.backends.onnx.backend import Onnx

__all__ = ["Onnx"]
