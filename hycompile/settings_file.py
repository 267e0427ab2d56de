"""Files of settings in TOML, device files and recipes: read, validated, and explained in one line where wrong."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hycompile.errors import DeviceError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound="BaseModel")


def read_settings(path: Path, model: type[Model], what: str, example: str) -> Model:
    """The contents of a TOML file.

    Args:
        path: of the file.
        model: what it must hold.
        what: what to call the file in an error (``device file``).
        example: where a complete one can be seen.

    Raises:
        DeviceError: no such file, a file that is not TOML, a key or value it may not have, a key it lacks.
    """
    from pydantic import ValidationError

    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise DeviceError(f"{what} {path}", "no such file", example) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceError(f"{what} {path}", f"cannot be read ({error})", "correct the file") from None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise explain(f"{what} {path}", error, model, example) from None


def explain(where: str, error: ValidationError, model: type[BaseModel], example: str) -> DeviceError:
    """What is wrong with settings for ``model``, in one line."""
    # A misspelt key is both unknown and missing: the unknown one says more.
    first = min(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    location = tuple(str(part) for part in first["loc"])
    seen = f"{where}, key {'.'.join(location)!r}"
    if first["type"] == "extra_forbidden":
        keys = _keys(model, location[:-1])
        return DeviceError(seen, "no such key", f"{did_you_mean(location[-1], keys)}known: {', '.join(keys)}")
    if first["type"] == "missing":
        return DeviceError(seen, "missing", f"add it; {example}")
    return DeviceError(f"{seen} = {first['input']!r}", first["msg"].lower(), "correct the value")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The most similar of some words as a question, empty if none is similar."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""


def _keys(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Keys that the table at ``location`` of a file for ``model`` may have."""
    from typing import get_args

    fields: dict[str, Any] = dict(model.model_fields)
    for part in location:
        if part.isdigit():
            continue
        annotation = fields[part].annotation
        inner = next(iter(get_args(annotation)), annotation)
        fields = dict(inner.model_fields)
    return list(fields)
