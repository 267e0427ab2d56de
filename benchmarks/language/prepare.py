"""From a build to files on disk, and from files to a session, whoever computes."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from benchmarks.exports import one_line
from benchmarks.language import llama_cpp, ort_stock, ours, subjects, write_gguf
from benchmarks.language.builds import Build, Mode, Strict
from benchmarks.language.session import Logits, Session
from hycompile.cache import sources_digest
from hycompile.errors import HycompileError, Unsupported
from hycompile.files import write_text

STEPS = 4
_RECORD, _GGUF = "prepared.json", "model.gguf"


class Prepared(Strict):
    """What became of a build.

    Args:
        status: ``ready``; ``refused`` by the tool; ``failed`` where it broke or gives no numbers; ``missing``.
        reason: why it is not ready.
        absent: modes that a ready contender lacks, with the reason.
        rel_err: of logits against eager, the largest of the prompt's last token and of some steps behind it.
        state_bytes: of one sequence, after the steps.
        size_bytes: of all files.
        seconds: it took.
        sources: digest of hycompile's sources it was built by.
        pipeline: text of its passes; only our own contenders have one.
    """

    status: Literal["ready", "refused", "failed", "missing"]
    reason: str = ""
    absent: dict[Mode, str] = Field(default_factory=dict[Mode, str])
    rel_err: float | None = None
    state_bytes: int | None = None
    size_bytes: int | None = None
    seconds: float = 0.0
    sources: str = ""
    pipeline: str | None = None


def known(build: Build, folder: Path, any_sources: bool = False) -> Prepared | None:
    """What an earlier run has built in this folder, if it still holds.

    Args:
        build: what is wanted.
        folder: of the build.
        any_sources: take what other sources of hycompile have built, by the same passes.
    """
    path = folder / _RECORD
    if not path.is_file():
        return None
    found = Prepared.model_validate_json(path.read_bytes())
    holds = found.pipeline == _pipeline(build) and (any_sources or found.sources == sources_digest())
    return found if holds else None


def prepare(build: Build, folder: Path) -> Prepared:
    """Build, open, and hold against eager; what the tool does wrong is the outcome. The folder is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.perf_counter()
    outcome = _attempt(build, folder)
    facts = {"size_bytes": _size(folder), "sources": sources_digest(), "pipeline": _pipeline(build)}
    outcome = outcome.model_copy(update={"seconds": time.perf_counter() - start, **facts})
    if outcome.status in ("ready", "refused"):
        write_text(folder / _RECORD, outcome.model_dump_json())
    return outcome


def open_session(build: Build, folder: Path, threads: int) -> Session:
    """Load what ``prepare`` left, in the mode contenders are timed in."""
    if build.runtime == "llama.cpp":
        return llama_cpp.load(folder / _GGUF, threads, build.context)
    if build.runtime == "onnxruntime":
        return ort_stock.load(folder, threads)
    return ours.load(folder, threads)


def prompt(build: Build, length: int) -> list[int]:
    """Seeded tokens, of any number: a longer text begins with a shorter one."""
    draw = random.Random(0)
    return [draw.randrange(subjects.vocabulary(build)) for _ in range(length)]


def _pipeline(build: Build) -> str | None:
    return None if build.runtime in ("llama.cpp", "onnxruntime") else ours.pipeline(build)


def _attempt(build: Build, folder: Path) -> Prepared:
    missing = write_gguf.missing() or llama_cpp.missing() if build.runtime == "llama.cpp" else None
    if missing is not None:
        return Prepared(status="missing", reason=missing)
    try:
        absent = _build(build, folder)
    except Unsupported as error:
        return Prepared(status="refused", reason=str(error))
    except Exception as error:  # noqa: BLE001 - the tool under test raises whatever it likes; that is the finding
        return Prepared(status="failed", reason=str(error) if isinstance(error, HycompileError) else one_line(error))
    if len(absent) == len(build.modes):
        return Prepared(status="refused", reason="; ".join(absent.values()), absent=absent)
    try:
        session = open_session(build, folder, 1)
        error = _error(build, session, [mode for mode in build.modes if mode not in absent])
        state = session.state_bytes
        session.close()
    except Exception as error:  # noqa: BLE001 - as above: what it built does not run
        return Prepared(status="failed", reason=f"does not run: {one_line(error)}", absent=absent)
    if not np.isfinite(error):
        return Prepared(status="failed", reason="its logits are no numbers", absent=absent)
    return Prepared(status="ready", absent=absent, rel_err=error, state_bytes=state)


def _build(build: Build, folder: Path) -> dict[Mode, str]:
    """Write the files; returns the modes that could not be built, with the reason."""
    if build.runtime == "llama.cpp":
        module = subjects.transformers_module(build)
        storage = "Q4_0" if build.weights == "int4" else "F32"
        write_gguf.write_gguf(write_gguf.gguf_model(module), folder / _GGUF, storage)
        return {}
    if build.runtime == "onnxruntime":
        module = subjects.transformers_module(build)
        exported = ort_stock.export(module, build.prompt, build.context, folder)
        return {one.mode: one.reason for one in exported if one.reason is not None and one.mode in build.modes}
    ours.compile_to(build, folder)
    return {}


def _error(build: Build, session: Session, modes: list[Mode]) -> float:
    """Where there is no prefill, the steps begin the sequence."""
    whole = "prefill" in modes
    steps = STEPS if "decode" in modes else 0
    start = build.prompt if whole else 0
    tokens = prompt(build, start + steps)
    wanted = subjects.reference(build, tokens, max(start - 1, 0))
    found = [session.prefill(tokens[:start]).logits] if whole else []
    found += [session.decode(token).logits for token in tokens[start:]]
    return max(_relative(one, other) for one, other in zip(found, wanted, strict=True))


def _relative(found: Logits, wanted: Logits) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
