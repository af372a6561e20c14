# Every target does all of its own set-up: a virtual environment in .venv, with exactly the versions
# that were tested (constraints.txt).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test test-slow check bench torture clean

quickstart: $(VENV)/.installed
	$(BIN)/burnish quickstart

# A file of tests goes to one process as a whole: what it has made on the way is then there for its next test.
# tests/conftest.py says in which order.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 \
	    --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --numprocesses auto --maxprocesses 8 \
	    --dist loadgroup --no-loadscope-reorder

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.start_up
	$(BIN)/python -m benchmarks.sft
	$(BIN)/python -m benchmarks.sft --data prefix --kind lora --rows 96 --peers burnish burnish-unshared
	$(BIN)/python -m benchmarks.proof --rows 10000

torture: $(VENV)/.installed-dev
	$(BIN)/python tests/torture.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[bench]'
	touch $@ $(VENV)/.installed
