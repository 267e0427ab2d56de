"""Shared libraries for CPUs through TVM's Relax, with a deterministic schedule of our own."""

from __future__ import annotations

from hycompile.backends.tvm.backend import Tvm

__all__ = ["Tvm"]
