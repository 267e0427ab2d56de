"""One folder a claim: ``run.py`` makes ``results.json``, and ``README.md`` is rendered from it."""
