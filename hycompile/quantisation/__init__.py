"""Quantised Programs: their nodes, the plan they follow, the data they are calibrated on, and how far they are off."""
