"""An Artifact: a folder of files with a manifest that says what they are, from what and by what they were made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hycompile.errors import ArtifactError
from hycompile.target import Target

MANIFEST = "manifest.json"
# Role and file name of what a language model's artifact carries beside its backend's own files.
TOKENIZER, TOKENIZER_FILE = "tokenizer", "tokenizer.json"


class TensorSpec(BaseModel):
    """Name, shape (a string stands for a dynamic size) and torch dtype (``float32``) of one input or output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class MethodSpec(BaseModel):
    """Flat signature of one method, in call order; ``mutates`` names the state buffers it writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    mutates: tuple[str, ...] = ()


class Manifest(BaseModel):
    """The contents of ``manifest.json``. ``digests`` maps each file path, relative to the folder, to its SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    backend: str
    target: Target
    program: str
    program_digest: str
    pipeline: str
    methods: dict[str, MethodSpec]
    files: dict[str, str]
    digests: dict[str, str]
    facts: dict[str, object] = Field(default_factory=dict[str, object])
    tools: dict[str, str] = Field(default_factory=dict[str, str])
    seconds: float


class Artifact:
    """A built artifact on disk.

    Args:
        folder: where its files and ``manifest.json`` lie.
        manifest: the parsed manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @property
    def backend(self) -> str:
        return self.manifest.backend

    @property
    def target(self) -> Target:
        return self.manifest.target

    @property
    def size_bytes(self) -> int:
        """Bytes of everything but the manifest."""
        return sum((self.folder / name).stat().st_size for name in self.manifest.digests)

    @property
    def digest(self) -> str:
        """SHA-256 over the files' names and digests: equal artifacts are equal here."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.manifest.digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def file(self, role: str) -> Path:
        """Path of the file (or folder) with that role.

        Raises:
            ArtifactError: the artifact has no such file.
        """
        if role not in self.manifest.files:
            raise ArtifactError(
                f"{self.folder}", f"no file with role {role!r} ({sorted(self.manifest.files)})", "rebuild it"
            )
        return self.folder / self.manifest.files[role]

    @classmethod
    def load(cls, folder: Path) -> Artifact:
        """Read a folder's manifest and verify every file's digest.

        Raises:
            ArtifactError: no manifest, a manifest of another format, a missing or altered file.
        """
        path = folder / MANIFEST
        try:
            manifest = Manifest.model_validate_json(path.read_text())
        except FileNotFoundError:
            raise ArtifactError(
                f"{folder}", f"holds no {MANIFEST}", "give the folder that `hycompile build` printed"
            ) from None
        except (ValidationError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"{path}", f"not a manifest ({str(error).splitlines()[0]})", "rebuild the artifact"
            ) from None
        for name, expected in manifest.digests.items():
            file = folder / name
            if not file.is_file() or file_digest(file) != expected:
                raise ArtifactError(f"{file}", "missing or altered since it was built", "rebuild the artifact")
        return cls(folder, manifest)

    def save_manifest(self) -> None:
        """Write ``manifest.json`` beside the files."""
        text = json.dumps(self.manifest.model_dump(mode="json"), indent=2, sort_keys=True)
        (self.folder / MANIFEST).write_text(text + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under ``folder`` except the manifest, by path relative to it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
