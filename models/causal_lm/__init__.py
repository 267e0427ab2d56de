"""Hybrid language models of transformers with state in buffers: ``prefill`` a prompt, then ``decode`` by token."""
