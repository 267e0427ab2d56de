"""The rewrite passes, one idea a file; found by entry point in the group ``hycompile.passes``."""
