"""Opening a saved ``.mlpackage``: its ML Program functions as coremltools' MIL, any damage as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hycompile.backends.coreml.quiet import quiet_coremltools
from hycompile.errors import ArtifactError

_WEIGHTS = Path("Data", "com.apple.CoreML", "weights")


def load_functions(package: Path) -> dict[str, Any]:
    """MIL functions by name.

    Raises:
        ArtifactError: the package is missing, truncated, or no ML Program.
    """
    if not (package / "Manifest.json").is_file():
        raise ArtifactError(f"{package}", "holds no Manifest.json", "give a complete .mlpackage folder")
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.frontend.milproto.load import load
        from google.protobuf.message import DecodeError

        try:
            spec = ct.utils.load_spec(str(package))
            program = load(
                spec, specification_version=spec.specificationVersion, file_weights_dir=str(package / _WEIGHTS)
            )
        except (DecodeError, RuntimeError, ValueError, KeyError, AssertionError, TypeError, OSError) as error:
            text = next(iter(str(error).strip().splitlines()), "no message")
            raise ArtifactError(
                f"{package}", f"cannot be read ({type(error).__name__}: {text})", "rebuild the artifact"
            ) from error
    return dict(program.functions)
