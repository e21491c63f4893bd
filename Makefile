# Onboarding in two commands: `make train` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install train test browser test-slow torture audit lint format types check docs wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Falls back to python3 where no python3.11 is on the path.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	@touch $@

install: $(STAMP) ## pinned environment in .venv

train: $(STAMP) ## train on the embedded digits, with a report
	$(BIN)/ran train

test: $(STAMP) ## the test suite (CPU, minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

browser: ## Chromium for the browser tests (apt, as root); they skip without it
	@command -v chromium >/dev/null || (timeout 60 apt-get update -qq && timeout 120 apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 || echo "chromium is not available: the browser tests skip"

test-slow: $(STAMP) ## the slow tests: full compilation of every unit
	$(BIN)/python -m pytest -m "slow or gpu"

SIZE ?= 1
torture: $(STAMP) ## kills, faults, flips, load, malformed and fuzzed input by the thousand (hours; SIZE=0.05: minutes)
	$(BIN)/python -m tools.torture --size $(SIZE)

audit: $(STAMP) ## known vulnerabilities of the pinned versions, as the package index lists them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: $(STAMP) ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: fix and reformat
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test ## everything CI runs

docs: $(STAMP) ## the documentation site in site/, offline; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(STAMP) ## dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove the environment and caches, not runs
	rm -rf $(VENV) dist build site .pytest_cache .ruff_cache
