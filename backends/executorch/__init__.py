"""ExecuTorch: a ``.pte`` with what XNNPACK, Core ML or Vulkan take delegated to them, the rest on portable kernels."""

from __future__ import annotations

from hycompile.backends.executorch.backend import Executorch

__all__ = ["Executorch"]
