"""Resident memory of this process, as Linux counts it; None elsewhere."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def reset_peak() -> None:
    """Start counting the peak anew from the present size (``man 5 proc``, clear_refs)."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return


def resident_mb() -> float | None:
    """Resident size now, in units of 10^6 bytes."""
    return _field("VmRSS")


def peak_mb() -> float | None:
    """Largest resident size since ``reset_peak``, in units of 10^6 bytes."""
    return _field("VmHWM")


def _field(name: str) -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    kibibytes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kibibytes[0]) * 1024 / 1e6 if kibibytes else None
