"""Recurrences over tokens as operators: one node in a graph, whatever the length; ``lower-scans`` chooses a form."""

from hycompile.recurrence.operators import cache_write, causal_conv, linear_recurrence, selective_scan

__all__ = ["cache_write", "causal_conv", "linear_recurrence", "selective_scan"]
