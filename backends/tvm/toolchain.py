"""Finds the C++ compiler that links an object file into a shared library for a device."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hycompile.backends.tvm.target import architecture, is_this_host
from hycompile.target import Target


def find_linker(target: Target) -> str | None:
    """Path of a compiler driver that links for the device; None if there is none here."""
    if "android" in target.triple:
        return _ndk_clang(target.triple)
    names = [f"{prefix}-{driver}" for prefix in _prefixes(target.triple) for driver in ("g++", "clang++", "gcc")]
    if is_this_host(target.triple):
        names += ["g++", "c++", "clang++", "gcc", "cc"]
    return next((found for found in map(shutil.which, names) if found), None)


def missing_linker(target: Target) -> str | None:
    """None, or one line: which linker is not installed and how to get it."""
    if find_linker(target) is not None:
        return None
    if "android" in target.triple:
        return (
            f"no Android NDK for {target.triple}: install the NDK and set ANDROID_NDK_HOME to its folder, "
            "or TVM_NDK_CC to its clang++"
        )
    if "linux-gnu" not in target.triple:
        return f"no linker for {target.triple} on this system: build for it on a machine of that system"
    if is_this_host(target.triple):
        return "no C++ compiler: apt install g++"
    return (
        f"no cross compiler {_prefixes(target.triple)[0]}-g++: apt install g++-{architecture(target.triple)}-linux-gnu"
    )


def _prefixes(triple: str) -> list[str]:
    """How Debian and others spell a triple in tool names: without the vendor, or with it."""
    parts = triple.split("-")
    short = "-".join((architecture(triple), *parts[-2:])) if len(parts) >= 3 else triple
    return list(dict.fromkeys((short, triple)))


def _ndk_clang(triple: str) -> str | None:
    """The NDK's driver for the oldest Android it knows: what it links runs on every newer one."""
    named = os.environ.get("TVM_NDK_CC")
    if named:
        return shutil.which(named)
    home = os.environ.get("ANDROID_NDK_HOME")
    if not home:
        return None
    stem = f"{architecture(triple)}-linux-android"
    found = Path(home).glob(f"toolchains/llvm/prebuilt/*/bin/{stem}*-clang++")
    levels = {int(level): path for path in found if (level := path.name.removeprefix(stem).split("-")[0]).isdigit()}
    return str(levels[min(levels)]) if levels else None
