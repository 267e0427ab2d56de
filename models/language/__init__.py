"""Hybrid language models of our own, built from layer plans: one mixer interface, many mixers, published layouts."""
