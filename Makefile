# The only things needed are Python 3.11 and make; everything else goes into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RLLIB := .venv-rllib
OLDEST := .venv-oldest

.PHONY: demo test slow gpu check docs rllib oldest tutorials clean

demo: $(READY)
	$(BIN)/gfnet demo

test: $(READY)
	$(BIN)/pytest

slow: $(READY)
	$(BIN)/pytest -m slow --dist worksteal --durations 15

gpu: $(READY)
	$(BIN)/pytest -m gpu -n 0

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

# the site, in build/site; warnings are errors, and nothing is fetched
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict

# RLlib pins gymnasium to the older end of what we allow: its example, and the environment's tests at that end
rllib: $(RLLIB)/.ready
	$(RLLIB)/bin/python -c 'import gymnasium; print("gymnasium", gymnasium.__version__)'
	$(RLLIB)/bin/pytest tests/test_env_*.py
	$(RLLIB)/bin/pytest -m slow -n 0 tests/test_examples_libraries.py tests/test_agents_ray.py \
		tests/test_benchmarks_soak.py

# the oldest versions that pyproject.toml allows; the slow tests do the same
oldest: $(READY)
	$(BIN)/python tests/oldest_versions.py $(OLDEST)

# the notebooks' outputs, anew
tutorials: $(READY)
	$(BIN)/python benchmarks/tutorials.py

clean:
	rm -rf $(VENV) $(RLLIB) $(OLDEST)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

$(RLLIB)/.ready: pyproject.toml
	$(PYTHON) -m venv $(RLLIB)
	$(RLLIB)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[rllib,video]' \
		pytest pytest-timeout pytest-xdist hypothesis psutil
	touch $(RLLIB)/.ready
