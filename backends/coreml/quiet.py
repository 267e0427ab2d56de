"""Keeps coremltools' progress bars and its notes about absent or newer packages from users, who cannot act on them."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# Who speaks when coremltools is imported or converts: itself, and what it imports in turn.
_LOGGERS = ("coremltools", "torchao", "torch.utils._pytree")
_PROGRESS = (
    ("coremltools.converters.mil.mil.passes.pass_pipeline", "tqdm"),
    ("coremltools.converters.mil.frontend.torch.ops", "_tqdm"),
)
# What they use that Python and torch are about to drop, and a folder the converter leaves to the garbage collector.
_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"Function _TORCH_OPS_REGISTRY\.__contains__ is deprecated", DeprecationWarning),
    (r"`torch\.jit\.script(_method)?` is deprecated", DeprecationWarning),
    (r"(read|open)_text is deprecated", DeprecationWarning),
    (r"Implicitly cleaning up <TemporaryDirectory", ResourceWarning),
)


@contextmanager
def quiet_coremltools() -> Generator[Any]:
    """Gives the ``coremltools`` module with its loggers and progress bars off; both come back afterwards."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            for message, category in _WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=category)
            import coremltools

            with _without_progress():
                yield coremltools
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _without_progress() -> Generator[None]:
    replaced: list[tuple[Any, str, Any]] = []
    for path, name in _PROGRESS:
        module = import_module(path)
        bar = getattr(module, name, None)
        if bar is not None:
            setattr(module, name, functools.partial(bar, disable=True))
            replaced.append((module, name, bar))
    try:
        yield
    finally:
        for module, name, bar in replaced:
            setattr(module, name, bar)
