"""Keeps ExecuTorch's and its helpers' messages about themselves away from the user's terminal and logging set-up."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from hycompile.quiet import quiet_torch

# Libraries whose log lines tell of their own progress or of extras we do not use; their errors still come through.
_TALKERS = ("executorch", "coremltools", "torchao", "torch.utils._pytree")

# Category and start of message of each known warning about the toolchain's own code.
_WARNINGS: tuple[tuple[type[Warning], str], ...] = (
    (DeprecationWarning, r"(read_text|open_text|read_binary) is deprecated\. Use files\(\) instead"),
    (DeprecationWarning, r"`torch\.jit\.script_method` is deprecated"),
    (DeprecationWarning, r"Function _TORCH_OPS_REGISTRY\.__contains__ is deprecated"),
    (DeprecationWarning, r"This API is experimental and subject to change without notice"),
    (UserWarning, r"Output Buffer not found\. Tensor Debug Data will not be available"),
    # State's initial values are serialised: see state.keep_initial_values.
    (UserWarning, r"Mutation on a buffer in the model is detected\. ExecuTorch assumes"),
    # Core ML's preprocessing leaves its package folder to the garbage collector.
    (ResourceWarning, r"Implicitly cleaning up <TemporaryDirectory"),
)


class _Errors(logging.Handler):
    """Passes errors on to the application's handlers and swallows the rest."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().handle(record)


@contextmanager
def quiet_executorch() -> Generator[None]:
    """Silences what the toolchain says to itself; restores the root logger, which two of its modules reconfigure."""
    with ExitStack() as stack:
        stack.enter_context(quiet_torch())
        stack.enter_context(_quiet_warnings())
        stack.enter_context(_root_logger_kept())
        for name in _TALKERS:
            stack.enter_context(_muted(logging.getLogger(name)))
        yield


@contextmanager
def _quiet_warnings() -> Generator[None]:
    with warnings.catch_warnings():
        for category, message in _WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield


@contextmanager
def _root_logger_kept() -> Generator[None]:
    """XNNPACK's partitioner calls ``basicConfig`` on import; Vulkan's logs its progress at INFO to the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.addFilter(_is_warning)
    try:
        yield
    finally:
        root.removeFilter(_is_warning)
        root.handlers[:] = handlers
        root.setLevel(level)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextmanager
def _muted(logger: logging.Logger) -> Generator[None]:
    handler, propagate = _Errors(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
