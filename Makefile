# The only things needed are Python 3.11 and make; everything else goes into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow check clean

demo: $(READY)
	$(BIN)/gfnet demo

test: $(READY)
	$(BIN)/pytest

slow: $(READY)
	$(BIN)/pytest -m slow --dist worksteal --maxfail 1

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

clean:
	rm -rf $(VENV)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)
