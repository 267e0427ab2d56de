"""ONNX Runtime as a contender, on what ``torch.onnx.export`` makes of transformers' own model: no pass of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.exports import one_line, write_onnx
from benchmarks.language.session import Logits, Timed, timed
from hycompile.errors import ArtifactError, Unsupported
from hycompile.quiet import quiet_torch

if TYPE_CHECKING:
    from torch import nn

Mode = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Exported:
    """What became of one export.

    Args:
        mode: which of the two graphs.
        seconds: it took, in vain or not.
        path: the file, where there is one.
        reason: why there is none.
    """

    mode: Mode
    seconds: float
    path: Path | None = None
    reason: str | None = None


def export(module: nn.Module, length: int, context: int, folder: Path) -> tuple[Exported, Exported]:
    """Write ``prefill.onnx`` and ``decode.onnx``; a failure is a result, and nothing is raised.

    Args:
        module: a ``...ForCausalLM`` of transformers.
        length: tokens of a prompt, which the graph fixes.
        context: tokens a sequence may have.
        folder: where to; other files there stay.
    """
    import torch

    from benchmarks.language.stock_cache import Decode, Prefill, Stock, read, slots

    stock, tokens = Stock(module, context), torch.zeros(1, length, dtype=torch.long)

    def prefill() -> Path:
        return write_onnx(Prefill(stock), (tokens,), folder / "prefill.onnx")

    def decode() -> Path:
        cache = stock.used_cache(tokens)
        state = [read(cache, slot) for slot in slots(cache)]
        return write_onnx(Decode(stock, slots(cache)), (tokens[:, :1], state), folder / "decode.onnx")

    return _attempt("prefill", prefill), _attempt("decode", decode)


def _attempt(mode: Mode, write: Callable[[], Path]) -> Exported:
    start = time.perf_counter()
    try:
        with quiet_torch():
            path = write()
    except Exception as error:  # noqa: BLE001 - whatever the exporter raises is the finding
        return Exported(mode, time.perf_counter() - start, reason=one_line(error))
    return Exported(mode, time.perf_counter() - start, path)


def load(folder: Path, threads: int) -> OrtStockSession:
    """Open what ``export`` wrote; either graph may be missing, and is then missed only when it is asked for.

    Raises:
        Unsupported: when neither is there.
    """
    prefill, decode = (_open(folder / f"{mode}.onnx", threads) for mode in ("prefill", "decode"))
    if prefill is None and decode is None:
        raise Unsupported(f"folder {folder.name}", "it holds no exported graph", "read the reasons export gave")
    return OrtStockSession(prefill, decode)


def _open(path: Path, threads: int) -> Any:
    import onnxruntime

    if not path.is_file():
        return None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OrtStockSession:
    """One sequence; ``session.Session`` says what its methods do.

    A prompt has the length that was exported, and begins the sequence. State goes from one execution to the next as
    ONNX Runtime returned it, uncopied.
    """

    def __init__(self, prefill: Any, decode: Any) -> None:
        self._prefill, self._decode = prefill, decode
        self._state: list[Any] = []

    def prefill(self, tokens: Sequence[int]) -> Timed:
        if self._state:
            raise ArtifactError("prefill.onnx", "it begins a sequence, and one is under way", "reset first")
        return self._run(self._prefill, "prefill", tokens)

    def decode(self, token: int) -> Timed:
        if not self._state and self._decode is not None:
            self._state = [_zeros(value) for value in self._decode.get_inputs()[1:]]
        return self._run(self._decode, "decode", [token])

    def reset(self) -> None:
        self._state = []

    @property
    def state_bytes(self) -> int:
        return sum(value.numpy().nbytes for value in self._state)

    def close(self) -> None:
        self._prefill = self._decode = None
        self._state = []

    def _run(self, graph: Any, mode: Mode, tokens: Sequence[int]) -> Timed:
        import onnxruntime

        if graph is None:
            raise Unsupported(f"{mode}.onnx", "it was not exported", "read the reason export gave")
        inputs, outputs = graph.get_inputs(), [value.name for value in graph.get_outputs()]
        length = inputs[0].shape[1]
        if len(tokens) != length:
            raise ArtifactError(
                f"{len(tokens)} tokens", f"{mode}.onnx takes {length}", "export for the length you need"
            )
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray([tokens], np.int64)), *self._state]
        feed = {value.name: given for value, given in zip(inputs, values, strict=True)}

        def compute() -> Logits:
            logits, *self._state = graph.run_with_ort_values(outputs, feed)
            return logits.numpy()[0]

        return timed(compute)


def _zeros(value: Any) -> Any:
    """An input of a sequence that has not begun."""
    import onnxruntime

    kind = {"tensor(float)": np.float32, "tensor(int64)": np.int64}[value.type]
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(value.shape, kind))
