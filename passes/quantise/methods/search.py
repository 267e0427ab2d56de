"""What a search is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from hycompile.passes.quantise.draft import Draft
from hycompile.program import Program


class Search(ABC):
    """Changes what observers chose, so that the Program computes more nearly what it did.

    ``parts`` names steps of the method that ``without`` can leave out, to see what each of them gives.
    """

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self.without = without

    def prepare(self, program: Program) -> int:
        """Rewrite the Program exactly, in place, before its layers are looked for; returns how many places changed.

        The result is proved against the Program before, and is the float model that layers are then compared with.
        Weights are replaced, not written into: other Programs share them.
        """
        del program
        return 0

    @abstractmethod
    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        """Change ranges, or replace weights by others that their ranges round better.

        Args:
            program: in float, with its calibration set.
            drafts: by method; changed in place.
        """
