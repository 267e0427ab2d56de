"""The test beds by name."""

from __future__ import annotations

from benchmarks.accuracy.beds.language import LanguageBed
from benchmarks.accuracy.beds.small_vision import SmallVisionBed
from benchmarks.accuracy.beds.text_lines import TextLinesBed
from benchmarks.accuracy.exam import Bed

_BEDS: tuple[Bed, ...] = (
    SmallVisionBed("fashion-mnist"),
    SmallVisionBed("quickdraw-345"),
    TextLinesBed(),
    LanguageBed(),
)
BEDS = {bed.name: bed for bed in _BEDS}
