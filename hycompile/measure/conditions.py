"""Under which conditions a latency was measured: without them the number cannot be compared with any other."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


@dataclass(frozen=True)
class Conditions:
    """State of the host around one measurement; None where the host does not tell.

    Args:
        cpu: model name as the kernel prints it.
        cpus: logical processors this process may use.
        threads: intra-operator threads the runtime was given.
        governor: frequency governor of the first core (``performance``, ``schedutil``).
        frequency_mhz: clock of the first core when the measurement began.
        load_before, load_after: one-minute load average; above ``cpus`` the machine is shared with other work.
        tools: package name to version.
    """

    cpu: str
    cpus: int
    threads: int
    governor: str | None
    frequency_mhz: float | None
    load_before: float | None
    load_after: float | None
    system: str
    python: str
    taken_at: str
    tools: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def warning(self) -> str | None:
        """Why absolute times are doubtful, or None on a quiet machine."""
        busiest = max((load for load in (self.load_before, self.load_after) if load is not None), default=0.0)
        # The measurement itself adds up to `threads` to the load average.
        if busiest > self.threads + 0.5:
            return f"load average {busiest:.1f}, of which we are {self.threads}: trust ratios, not absolute times"
        return None


def cpu_model() -> str:
    """The processor's name, or its architecture where the kernel gives no name (most Arm boards)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load_average() -> float | None:
    """One-minute load average, None where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def usable_cpus() -> int:
    """Logical processors this process may run on (its affinity, not the machine's total)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tool_versions(*packages: str) -> dict[str, str]:
    """Installed versions of the packages that are installed."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_conditions(threads: int, load_before: float | None, tools: dict[str, str]) -> Conditions:
    """The conditions now, at the end of a measurement that began under ``load_before``."""
    return Conditions(
        cpu=cpu_model(),
        cpus=usable_cpus(),
        threads=threads,
        governor=_read(_CPUFREQ / "scaling_governor"),
        frequency_mhz=_frequency_mhz(),
        load_before=load_before,
        load_after=load_average(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        taken_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        tools=tools,
    )


def _frequency_mhz() -> float | None:
    kilohertz = _read(_CPUFREQ / "scaling_cur_freq")
    if kilohertz is not None:
        return float(kilohertz) / 1000
    cpuinfo = _read(Path("/proc/cpuinfo")) or ""
    clocks = [line.partition(":")[2] for line in cpuinfo.splitlines() if line.startswith("cpu MHz")]
    return float(clocks[0]) if clocks else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
