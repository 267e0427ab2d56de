"""The test beds by name."""

from __future__ import annotations

from benchmarks.accuracy.beds.small_vision import SmallVisionBed
from benchmarks.accuracy.exam import Bed

_BEDS: tuple[Bed, ...] = (SmallVisionBed("fashion-mnist"), SmallVisionBed("quickdraw-345"))
BEDS = {bed.name: bed for bed in _BEDS}
