# Few words: setup, check, test, test-all, bench, demo. `make PYTHON=python3.13 setup` picks an
# interpreter, `make VENV=folder …` an environment. On Windows type the commands of CONTRIBUTING.md.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PURE := */errors.py,*/domain/*,*/trust/*,*/plan/*,*/codec/*,*/wire/*,*/families/*
READY := $(VENV)/.ready

.PHONY: setup check test test-all bench demo

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[torch,dev]'
	touch $(READY)

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python tools/house.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --cov=manyhands --cov-report=
	$(BIN)/coverage report --include='$(PURE)' --fail-under=95

bench: $(READY)
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

demo: $(READY)
	$(BIN)/python examples/three_peers.py
