"""Looks at a ``.pt2`` archive before torch does, and refuses every part that could run code when read.

``torch.export.load`` unpickles what is marked as pickled and every opaque object, falls back to free unpickling of
sample inputs and to an older format that is pickled throughout, loads compiled libraries, resolves operators by any
dotted name, lets sympy evaluate size expressions, and writes names into Python source that it executes. What passes
here is tensors and a graph of ATen operators, packed anew so that torch reads the very bytes that were checked.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch

from hycompile.errors import CaptureError
from hycompile.sizes import is_size

WAY_OUT = "export it again with torch.export.save, from a source you trust"

_MARKERS = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
_MODEL = re.compile(r"models/(\w+)\.json")
_SAMPLES = re.compile(r"data/sample_inputs/\w+\.pt")
_CONFIG = re.compile(r"data/(weights|constants)/\w+_config\.json")
_PAYLOAD = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
# Names end up in Python source: nothing that could end a string or make a call.
_NAME = re.compile(r"[\w./ +-]*")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision|hycompile)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|truediv|mod|pow|and_|or_|lshift|rshift|getitem)"
    r"|math\.trunc|torch\.sym_(not|int|float|ite|max|min|sqrt)"
)
_WRITES_FILES = ("torch.ops.aten.from_file.",)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
# What reading a damaged zip file raises.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def checked(path: Path, data: bytes) -> bytes:
    """The ``.pt2`` archive in ``data``, checked and packed anew.

    Raises:
        CaptureError: not an archive, no exported program in it, or a part that could run code.
    """
    members = _members(path, data)
    if not any(_MODEL.fullmatch(member) for member in members):
        raise CaptureError(
            f"{path}", "holds no exported program (truncated, a pickled checkpoint, or TorchScript?)", WAY_OUT
        )
    for member, content in members.items():
        try:
            reason = _danger(member, content)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CaptureError(f"{path}", f"{member} cannot be read ({error})", WAY_OUT) from None
        if reason:
            raise CaptureError(f"{path}", f"{member} holds {reason}, which could run code", WAY_OUT)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, content in members.items():
            archive.writestr(f"archive/{member}", content)
    return packed.getvalue()


def _members(path: Path, data: bytes) -> dict[str, bytes]:
    """Contents by name below the archive's root folder; extra files, which no program needs, are left out."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except BROKEN as error:
        raise CaptureError(f"{path}", f"not a readable archive ({error})", WAY_OUT) from None
    below = {name.partition("/")[2] or name: content for name, content in found.items()}
    return {name: content for name, content in below.items() if not name.startswith("extra/")}


def _danger(member: str, content: bytes) -> str | None:
    """What of a member could run code; None if nothing."""
    if member in _MARKERS or _PAYLOAD.fullmatch(member):
        return None
    if _MODEL.fullmatch(member):
        return _danger_in_model(json.loads(content))
    if kind := _CONFIG.fullmatch(member):
        return _danger_in_config(json.loads(content), "weight_" if kind[1] == "weights" else "tensor_")
    if _SAMPLES.fullmatch(member):
        return _danger_in_samples(content)
    if member.startswith("data/aotinductor/"):
        return "a compiled library"
    return (
        "a pickled payload" if member.endswith((".pt", ".pkl")) else "something that is no part of an exported program"
    )


def _danger_in_samples(content: bytes) -> str | None:
    if not content:
        return None
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, *BROKEN):
        return "pickled objects other than tensors"
    return None


def _danger_in_config(config: Any, prefix: str) -> str | None:
    """A payload is raw bytes only if its file has the name of a tensor and is not marked as pickled."""
    for key, value in _items(config):
        if (key == "use_pickle" and value is not False) or (key == "path_name" and not str(value).startswith(prefix)):
            return "a pickled payload"
        if not _NAME.fullmatch(key) or (isinstance(value, str) and not _NAME.fullmatch(value)):
            return f"the name {(value if isinstance(value, str) else key)[:40]!r}"
    return None


def _danger_in_model(model: Any) -> str | None:
    for key, value in _items(model, skip="metadata"):
        if not _NAME.fullmatch(key):
            return f"the name {key[:40]!r}"
        for text in value if isinstance(value, list) else [value]:
            reason = _danger_in_text(key, text) if isinstance(text, str) else None
            if reason:
                return reason
    return None


def _danger_in_text(key: str, text: str) -> str | None:
    if key in ("target", "as_operator"):
        known = _OPERATOR.fullmatch(text) and not text.startswith(_WRITES_FILES)
        return None if known else f"a call of {text[:60]!r}"
    if key == "expr_str":
        return None if is_size(text) else f"the size expression {text[:40]!r}"
    if key in ("in_spec", "out_spec"):
        return _danger_in_structure(text)
    # Read as data only, or never read.
    if key in ("as_string", "as_strings", "guards_code"):
        return None
    return None if _NAME.fullmatch(text) else f"the name {text[:40]!r}"


def _danger_in_structure(text: str) -> str | None:
    """How inputs or outputs nest: some containers import the module they name when they are read."""
    for key, value in _items(json.loads(text) if text else None):
        if key == "type" and value not in _CONTAINERS:
            return f"a container of type {str(value)[:60]!r}"
        if isinstance(value, str) and (not _NAME.fullmatch(re.sub(r"[\[\]\",]", "", value)) or "__enum__" in value):
            return f"the name {value[:40]!r}"
    return None


def _items(value: Any, skip: str | None = None) -> Iterator[tuple[str, Any]]:
    """Every key and value of the dictionaries in a JSON document, however deep, but for what lies under ``skip``."""
    if isinstance(value, dict):
        for key, child in cast("dict[str, Any]", value).items():
            if key != skip:
                yield key, child
                yield from _items(child, skip)
    elif isinstance(value, list):
        for child in cast("list[Any]", value):
            yield from _items(child, skip)
