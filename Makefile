# Few words: demo, setup, check, test, test-all, bench, storyteller, picture. `make PYTHON=python3.13 setup` picks an
# interpreter, `make VENV=folder …` an environment, `make BENCH="--only decode" bench` a part. On Windows
# type the commands of CONTRIBUTING.md.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PURE := */errors.py,*/domain/*,*/trust/*,*/plan/*,*/codec/*,*/wire/*,*/families/*
READY := $(VENV)/.ready
BASE := $(VENV)/.base

.PHONY: demo setup check test test-all bench storyteller picture

demo: $(BASE)
	$(BIN)/hands demo

$(BASE): pyproject.toml constraints.txt
	@echo "once: the base package into $(VENV), 37 MB to download"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $(BASE)

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[torch,dev]'
	touch $(BASE) $(READY)

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python tools/house.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov=manyhands --cov-report=
	$(BIN)/coverage report --include='$(PURE)' --fail-under=95

bench: $(READY)
	$(BIN)/python benchmarks/bench.py $(BENCH)

storyteller: $(READY)
	OMP_WAIT_POLICY=passive $(BIN)/python -m recipes.storyteller

picture: $(READY)
	$(BIN)/python tools/picture.py
