"""Schedules for CPUs."""

from __future__ import annotations

from hycompile.backends.tvm.schedule.machine import Machine
from hycompile.backends.tvm.schedule.module import Report, schedule

__all__ = ["Machine", "Report", "schedule"]
