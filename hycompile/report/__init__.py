"""One HTML page per build: it needs no network, no script and no server."""
