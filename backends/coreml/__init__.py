"""Core ML: ML Program packages, and a reference interpreter that proves them on any host."""

from hycompile.backends.coreml.backend import Coreml

__all__ = ["Coreml"]
