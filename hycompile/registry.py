"""Finds passes, backends and model families by entry point, importing each only when it is asked for."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, cast

from hycompile.errors import CaptureError, HycompileError, PassError, Unsupported

if TYPE_CHECKING:
    from hycompile.backend import Backend
    from hycompile.models.family import Family
    from hycompile.pipeline import Pass

Kind = Literal["passes", "backends", "models"]
_FILES = (".pt2", ".pt", ".pth", ".bin", ".safetensors", ".hyc")
_SINGULAR: dict[Kind, str] = {"passes": "pass", "backends": "backend", "models": "model family"}


@cache
def _table(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=f"hycompile.{kind}"))}


def names(kind: Kind) -> list[str]:
    """Registered names of one kind, sorted, without importing any of them."""
    return sorted(_table(kind))


def _load(kind: Kind, name: str, error: type[HycompileError]) -> Any:
    table = _table(kind)
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise error(
            f"{_SINGULAR[kind]} {name!r}",
            "not registered",
            f"{guess}known: {', '.join(table)}",
        )
    try:
        return table[name].load()
    except (ImportError, AttributeError) as cause:
        raise error(
            f"{kind} entry point {name!r} = {table[name].value!r}",
            f"cannot be loaded ({cause})",
            "reinstall its package",
        ) from cause


def pass_class(name: str) -> type[Pass]:
    """The pass class registered under ``name``; raises PassError for an unknown one."""
    return cast("type[Pass]", _load("passes", name, PassError))


def backend(name: str) -> Backend:
    """A new backend registered under ``name``; raises Unsupported for an unknown one."""
    return cast("Backend", _load("backends", name, Unsupported)())


def family(name: str) -> Family:
    """The model family registered under ``name``; raises CaptureError for an unknown one."""
    return cast("Family", _load("models", name, CaptureError))


def find_model(name: str) -> tuple[Family, str] | None:
    """The family that knows a model and the name it knows it by; None if the text names a file or a Python function.

    Raises:
        CaptureError: it looks like a model's name, and no family knows it.
    """
    if ":" in name or name.endswith(_FILES) or name.startswith((".", "/", "~")):
        return None
    families = [family(kind) for kind in names("models")]
    for found in families:
        own = found.aliases().get(name, name)
        if own in found.names():
            return found, own
    every = [model for found in families for model in [*found.names(), *found.aliases()]]
    close = difflib.get_close_matches(name, every, n=3)
    guess = f"did you mean {', '.join(close)}? " if close else ""
    raise CaptureError(f"model {name!r}", "no such model", f"{guess}`hycompile models` lists {len(every)} of them")
