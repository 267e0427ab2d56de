"""No search: the ranges are those that observers chose."""

from __future__ import annotations

from collections.abc import Mapping

from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.methods.search import Search
from hycompile.program import Program


class Observed(Search):
    """Leaves everything as it is."""

    name = "observed"

    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        """Nothing to do."""
