"""Names of passes, backends and models: lists without imports, close matches, entry points that are broken."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from hycompile import registry
from hycompile.errors import CaptureError, PassError, Unsupported


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: registry.pass_class("normalize"), "pass 'normalize': not registered; did you mean 'normalise'?"),
        (lambda: registry.pass_class("zzz"), "pass 'zzz': not registered; known: "),
        (lambda: registry.backend("core-ml"), "backend 'core-ml': not registered; did you mean 'coreml'? known: "),
        (lambda: registry.family("tim"), "model family 'tim': not registered; did you mean 'timm'? known: "),
    ],
)  # fmt: skip
def test_unknown_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises((PassError, Unsupported, CaptureError)) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_names_are_sorted() -> None:
    assert registry.names("passes") == sorted(registry.names("passes"))
    assert {"normalise", "reparameterise", "fold-batch-norm", "fold-constants"} <= set(registry.names("passes"))
    assert {"coreml", "executorch", "onnx", "tensorrt", "tvm"} <= set(registry.names("backends"))


@pytest.mark.parametrize("value", ["no_such_module:Pass", "hycompile.pipeline:NoSuchPass"])
def test_entry_point_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint("broken", value, "hycompile.passes")
    monkeypatch.setattr(registry, "_table", lambda kind: {"broken": point})
    with pytest.raises(PassError) as caught:
        registry.pass_class("broken")
    assert str(caught.value).startswith(f"passes entry point 'broken' = '{value}': cannot be loaded (")
    assert caught.value.way_out == "reinstall its package"
