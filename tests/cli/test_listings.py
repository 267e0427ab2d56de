"""``devices``, ``doctor``, ``passes`` and ``models``: text for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hycompile import registry

Cli = Callable[..., Any]


def test_devices(cli: Cli) -> None:
    names = [device["name"] for device in cli("devices", "--json").document]
    assert "host" in names
    assert "pixel-9" in names
    text = cli("devices").out
    assert all(name in text for name in names)


def test_devices_show(cli: Cli) -> None:
    document = cli("devices", "show", "jetson-orin-nano", "--json").document
    assert document["tensorrt"]["compute_capability"] == "8.7"
    text = cli("devices", "show", "jetson-orin-nano").out
    assert "compute_capability=8.7" in text
    assert "cortex-a78ae" in text
    assert "developer.nvidia.com/cuda-gpus" in text


def test_doctor_says_what_is_missing_and_how_to_get_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def missing(self, target: Any) -> str:
            return f"runtime of {target.name} not installed: pip install it[all]"

    whole = registry.backend
    monkeypatch.setattr(registry, "backend", lambda name: Absent() if name == "tvm" else whole(name))
    ran = cli("doctor", "--json")
    assert ran.code == 0
    checks = {(check["kind"], check["name"]): check for check in ran.document["checks"]}
    assert checks["package", "torch"]["found"].startswith("2.")
    assert checks["backend", "onnx"]["found"] == "ready"
    assert checks["backend", "tvm"]["found"] is None
    text = cli("doctor").out
    assert "runtime of host not installed: pip install it[all]" in text


def test_passes_are_described_by_their_own_docstrings(cli: Cli) -> None:
    entries = {entry["name"]: entry for entry in cli("passes", "--json").document}
    assert set(entries) == set(registry.names("passes"))
    assert all(entry["doc"] for entry in entries.values())
    rules = entries["fold-batch-norm"]["rules"]
    assert rules
    assert all(rule["identity"] and rule["source"] for rule in rules)
    text = cli("passes", "fold-batch-norm").out
    for rule in rules:
        assert rule["identity"] in text
        assert rule["source"] in text


def test_models(cli: Cli) -> None:
    found = cli("models", "nextvit", "--family", "timm", "--json").document
    assert {"name": "nextvit_small", "family": "timm"} in found
    assert all("nextvit" in entry["name"] for entry in found)
    exact = cli("models", "nextvit_s*", "--json").document
    assert [entry["name"] for entry in exact] == ["nextvit_small"]
