"""One Program to one artifact: through the cache, with its manifest, whole or not at all."""

from __future__ import annotations

import hashlib
import time

from hycompile import registry
from hycompile.artifact import TOKENIZER, TOKENIZER_FILE, Artifact, Manifest, folder_digests
from hycompile.backend import Backend, Obstacle
from hycompile.cache import Cache, key, target_parts
from hycompile.device import choose_target
from hycompile.errors import Unsupported
from hycompile.lean import short_histories
from hycompile.program import Program
from hycompile.quantisation.nodes import is_quantised
from hycompile.target import Precision, Target


def lower(
    program: Program,
    device: str | Target = "host",
    runtime: str | None = None,
    *,
    precision: Precision | None = None,
    pipeline: str = "",
    cache: Cache | None = None,
) -> Artifact:
    """Lower a Program to an artifact for a device.

    Args:
        program: usually the result of a pipeline.
        device: name of a device, path of a device file, or a Target.
        runtime: backend name; the device's first runtime by default.
        precision: ``fp32``, ``fp16``, or ``int8`` for a quantised Program; the device's by default.
        pipeline: text of the passes already run, for the manifest.
        cache: where artifacts are kept; the user's cache folder by default.

    Raises:
        Unsupported: toolchain missing, precision not offered, or operators in the way; the message names the first.
        DeviceError: unknown device.
        ArtifactError: the disk is full.
    """
    target = choose_target(device, precision or ("int8" if is_quantised(program) else None))
    backend = registry.backend(runtime or target.runtimes[0])
    refuse_missing(backend, target)
    refuse_precision(program, target)
    refuse_obstacles(backend, backend.obstacles(program, target))
    return lower_cached(program, backend, target, pipeline, cache or Cache())[0]


def refuse_missing(backend: Backend, target: Target) -> None:
    """Raise Unsupported when the backend's toolchain is absent or it does not offer the precision."""
    missing = backend.missing(target)
    if missing is not None:
        raise Unsupported(f"backend {backend.name!r}", "toolchain missing", missing)
    if target.precision not in backend.precisions:
        raise Unsupported(
            f"backend {backend.name!r}",
            f"does not offer {target.precision}",
            f"it offers {', '.join(backend.precisions)}",
        )


def refuse_precision(program: Program, target: Target) -> None:
    """Raise Unsupported unless a quantised Program is lowered as one, and no other is."""
    seen = f"program {program.name!r} at {target.precision}"
    if is_quantised(program) and target.precision != "int8":
        raise Unsupported(seen, "is quantised: it holds whole numbers", "lower it at int8, or leave quantise out")
    if target.precision == "int8" and not is_quantised(program):
        raise Unsupported(seen, "is not quantised", "add quantise to the pipeline, with calibration data")


def refuse_obstacles(backend: Backend, obstacles: list[Obstacle]) -> None:
    """Raise Unsupported when an operator stands in the way of the whole build."""
    fatal = [obstacle for obstacle in obstacles if obstacle.fatal]
    if fatal:
        first, more = fatal[0], f" and {len(fatal) - 1} more" if len(fatal) > 1 else ""
        count = f"x{first.count}, {first.where}" if first.where else f"x{first.count}"
        raise Unsupported(
            f"backend {backend.name!r}, operator {first.operator} ({count}){more}",
            first.reason,
            first.way_out,
        )


def lower_cached(
    program: Program, backend: Backend, target: Target, pipeline: str, cache: Cache
) -> tuple[Artifact, bool]:
    """The artifact, and whether it came from the cache."""
    refuse_precision(program, target)
    digest = program.digest
    tokenizer = hashlib.sha256(program.tokenizer).hexdigest() if program.tokenizer is not None else None
    name = key(
        program=digest,
        tokenizer=tokenizer,
        backend=backend.name,
        pipeline=pipeline,
        target=target_parts(target.model_dump(mode="json")),
    )
    found = cache.artifact(name)
    if found is not None:
        return found, True
    start = time.perf_counter()
    with cache.writing(name) as folder:
        with short_histories():
            lowered = backend.lower(program, target, folder)
        files = dict(lowered.files)
        if program.tokenizer is not None:
            (folder / TOKENIZER_FILE).write_bytes(program.tokenizer)
            files[TOKENIZER] = TOKENIZER_FILE
        manifest = Manifest(
            backend=backend.name,
            target=target,
            program=program.name,
            program_digest=digest,
            pipeline=pipeline,
            methods={method: program.methods[method].spec() for method in program.methods},
            files=files,
            digests=folder_digests(folder),
            facts=lowered.facts,
            tools=lowered.tools,
            seconds=time.perf_counter() - start,
        )
        Artifact(folder, manifest).save_manifest()
    built = cache.artifact(name)
    if built is None:
        raise Unsupported(
            f"backend {backend.name!r}", "its artifact vanished from the cache while being read back", "build again"
        )
    return built, False
