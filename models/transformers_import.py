"""Imports classes of transformers without its noise, and beside a torchvision whose operators do not load."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from hycompile.errors import CaptureError


def transformers_class(name: str) -> Any:
    """The class of this name; transformers imports what it needs when it is asked for one.

    Raises:
        CaptureError: transformers cannot be imported.
    """
    from hycompile.models.torchvision_schemas import declare_missing_operators

    declare_missing_operators()
    with _quiet_import():
        try:
            import transformers
        except ImportError as error:
            raise CaptureError("transformers", f"cannot be imported ({error})", "pip install transformers") from error
        return getattr(transformers, name)


@contextmanager
def _quiet_import() -> Generator[None]:
    """transformers imports torchao where it is installed, which logs about optional kernels it does not find."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Deprecations inside torchao's own modules, at import.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torchao\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
