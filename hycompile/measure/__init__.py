"""Latency with its conditions, and comparisons that survive a noisy machine."""
