"""The vector unit a schedule aims at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Machine:
    """Float32 lanes of a vector register, how many such registers there are, and how many cores share the work."""

    lanes: int
    registers: int
    cores: int

    @classmethod
    def of(cls, target: Any) -> Machine:
        """Read from an LLVM target.

        AVX-512 and 64-bit ARM name 32 vector registers, older x86 names 16. The features are asked for one by one:
        LLVM's own vector width of a target follows the machine that compiles, not the one compiled for.
        """
        from tvm.target import codegen

        cores = int(target.attrs.get("num-cores", 1))
        if codegen.target_has_features("avx512f", target):
            return cls(16, 32, cores)
        if codegen.target_has_features("avx2", target):
            return cls(8, 16, cores)
        return cls(4, 32 if codegen.target_has_features("neon", target) else 16, cores)
