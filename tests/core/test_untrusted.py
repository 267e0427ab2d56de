"""Files from strangers: nothing in them runs, and each is refused in one line that says what is wrong.

Every attack here leaves a marker file when it works. Where stock torch falls for it, the test shows that first, so that
an attack that no longer works does not pass for one that is held off.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hycompile.capture import capture
from tests.core.archives import NO_PROGRAM, Members, edited, refused, write


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def test_honest_archive_is_read(tmp_path: Path, members: Members) -> None:
    program = capture(write(tmp_path / "net.pt2", members))
    (constraint,) = program.methods["forward"].export().range_constraints.values()
    assert (constraint.lower, constraint.upper) == (2, 9)


def test_checkpoint_with_payload(tmp_path: Path, marker: Path) -> None:
    for name in ("model.pt", "model.pt2", "model.bin"):
        torch.save({"state": Payload(marker)}, tmp_path / name)
        assert refused(tmp_path / name).reason == NO_PROGRAM
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload(marker)))
    assert "not a readable archive" in refused(tmp_path / "plain.pt").reason
    assert not marker.exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert marker.exists()


def _pickled(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(marker), buffer)
    return buffer.getvalue()


def _mark_pickled(config: Any) -> None:
    next(iter(config["config"].values()))["use_pickle"] = True


def _opaque(config: Any) -> None:
    entry = dict(next(iter(config["config"].values())))
    config["config"]["evil"] = entry | {"path_name": "opaque_obj_0"}


def _call_system(model: Any) -> None:
    node = model["graph_module"]["graph"]["nodes"][-1]
    node["target"] = "torch.os.system"


def _size_expression(model: Any) -> None:
    text = json.dumps(model).replace("Symbol('s", "__import__('os').system('true') or Symbol('s")
    model.clear()
    model.update(json.loads(text))


def _name_with_code(model: Any) -> None:
    specs = model["graph_module"]["signature"]["input_specs"]
    specs[0]["parameter"]["parameter_name"] = "x=__import__('os').system('true')"


def _structure_that_imports(model: Any) -> None:
    spec = [1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]
    model["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)


def _enum_in_structure(model: Any) -> None:
    signature = model["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(signature["in_spec"])
    spec[1]["context"] = '{"__enum__": true, "fqn": "antigravity:x", "name": "x"}'
    signature["in_spec"] = json.dumps(spec)


EDITS = [
    ("weights_config.json", _mark_pickled, "data/weights/model_weights_config.json holds a pickled payload"),
    ("constants_config.json", _mark_pickled, "data/constants/model_constants_config.json holds a pickled payload"),
    ("constants_config.json", _opaque, "data/constants/model_constants_config.json holds a pickled payload"),
    ("model.json", _call_system, "models/model.json holds a call of 'torch.os.system'"),
    (
        "model.json",
        _size_expression,
        "models/model.json holds the size expression \"__import__('os').system('true') or Symbo\"",
    ),
    ("model.json", _name_with_code, "models/model.json holds the name \"x=__import__('os').system('true')\""),
    ("model.json", _structure_that_imports, "models/model.json holds a container of type 'collections.defaultdict'"),
    ("model.json", _enum_in_structure, 'models/model.json holds the name \'{"__enum__": true, "fqn": "antigravity:x\''),
]


@pytest.mark.parametrize(("suffix", "edit", "reason"), EDITS, ids=[f"{e[1].__name__}-{e[0]}" for e in EDITS])
def test_edited_document(
    tmp_path: Path, members: Members, suffix: str, edit: Callable[[Any], None], reason: str
) -> None:
    path = write(tmp_path / "net.pt2", edited(members, suffix, edit))
    assert refused(path).reason == f"{reason}, which could run code"


def test_opaque_object_not_marked_as_pickled(tmp_path: Path, members: Members, marker: Path) -> None:
    """torch unpickles by the file's name, whatever ``use_pickle`` says."""
    evil = edited(members, "constants_config.json", _opaque)
    # Padded to whole floats, as torch reads it as a tensor first.
    content = pickle.dumps(Payload(marker))
    path = write(
        tmp_path / "net.pt2", evil | {"archive/data/constants/opaque_obj_0": content + b"\0" * (-len(content) % 4)}
    )
    refused(path)
    assert not marker.exists()
    torch.export.load(path)
    assert marker.exists()


def test_sample_inputs_with_payload(tmp_path: Path, members: Members, marker: Path) -> None:
    (name,) = (name for name in members if "sample_inputs" in name)
    path = write(tmp_path / "net.pt2", members | {name: _pickled(marker)})
    assert refused(path).reason.startswith("data/sample_inputs/model.pt holds pickled objects other than tensors")
    assert not marker.exists()


def test_older_format_behind_a_broken_new_one(tmp_path: Path, members: Members, marker: Path) -> None:
    """torch falls back to members of an older format, which it unpickles, when the new format fails."""
    (model,) = (name for name in members if name.endswith("model.json"))
    pickled = ("state_dict", "constants", "example_inputs")
    old = {"version": b"8.20", "serialized_exported_program.json": members[model]}
    old |= {f"serialized_{name}.pt": _pickled(marker) for name in pickled}
    rest = {name: content for name, content in members.items() if "archive_version" not in name}
    path = write(tmp_path / "net.pt2", rest | old)
    assert "could run code" in refused(path).reason
    assert not marker.exists()
    # A TypeError where torch's own warning about it cannot be formatted.
    with pytest.raises((AssertionError, TypeError)):
        torch.export.load(path)
    assert marker.exists()


@pytest.mark.parametrize(
    ("member", "what"),
    [
        ("archive/data/aotinductor/model/x.so", "a compiled library"),
        ("archive/data/weights/model.pt", "a pickled payload"),
        ("archive/data/Constants/model_constants_config.json", "something that is no part of an exported program"),
        ("archive/data/constants/custom_obj_0", "something that is no part of an exported program"),
        ("archive/code/__torch__.py", "something that is no part of an exported program"),
    ],
)
def test_foreign_member(tmp_path: Path, members: Members, member: str, what: str) -> None:
    path = write(tmp_path / "net.pt2", members | {member: b"x"})
    assert refused(path).reason == f"{member.partition('/')[2]} holds {what}, which could run code"


def test_what_is_checked_is_what_is_read(tmp_path: Path, members: Members) -> None:
    """Of two members of one name, Python's reader sees the last and torch's the first: only one goes on."""
    (config,) = (name for name in members if name.endswith("constants_config.json"))
    evil = edited(members, "constants_config.json", _opaque)[config]
    path = tmp_path / "net.pt2"
    write(path, {config: evil} | {name: content for name, content in members.items() if name != config})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(config, members[config])
    assert capture(path).tensors().keys() == {"linear.weight", "linear.bias", "shift"}
