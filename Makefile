# Every target sets up what it needs: on a fresh machine `make test` and `make demo` are enough.
# PYTHON chooses the interpreter (3.11); pip takes its indexes from its own configuration and environment.
PYTHON ?= python3.11
VENV := .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help dev test demo check docs

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-7s %s\n", $$1, $$2 }'

dev: $(READY) ## Virtual environment in .venv with exact versions; instant when it is up to date

test: $(READY) ## The default tests: no network beyond the first fetch of weights, no device
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --maxprocesses 4

demo: $(READY) ## Compile a text recogniser for every runtime and read a line with each
	.venv/bin/python examples/read_line.py

check: $(READY) ## Lint, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

docs: $(READY) ## Write docs/passes.md anew from the docstrings of passes and rules
	.venv/bin/python docs/generate.py

# torch==2.13.0 is satisfied by 2.13.0+cpu, which pip prefers wherever one of its indexes offers it.
$(READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,tensorrt-rtx]'
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
