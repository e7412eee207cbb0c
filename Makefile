# The tasks of this project; `make help` lists them.
#
# All that has to be there is Python >= 3.11, git and make:
# the first target that needs it creates the environment .venv,
# later ones use it again until pyproject.toml changes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# A Python that is new enough: PYTHON=... makes another choice.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

# The release that shares repositories and caches with this version.
RELEASE := 1.5.3
RELEASE_VENV := .venv-$(RELEASE)
RELEASED := $(RELEASE_VENV)/.installed

# Processes that run tests, and more arguments for pytest, e.g.
# make test ARGS="-k alias"
JOBS ?= 2
ARGS ?=

# Benchmarks, and what installs the packages that each of them names itself.
BENCH ?= load publish small_files round_trips memory movers scale parallel
UV := $(or $(shell command -v uv),$(BIN)/uv)

PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) \
	| sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' \
	| while IFS=$$'\t' read -r name text; do printf '  %-8s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(RUNTIME) ## Publish, load and tag a model, and see what happens
	@$(BIN)/python examples/quickstart.py

.PHONY: test
test: $(DEV) $(RELEASED) ## Run all tests, those in the documentation included
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term $(ARGS)

# TORTURE=10 make torture tries ten times as much.
# Most of its time would go into waiting for the disk,
# which it does not have to do in memory. make test runs the same on the disk.
MEMORY := $(shell df -k --output=avail /dev/shm 2>/dev/null \
	| awk 'NR == 2 && $$1 > 8000000 { print "/dev/shm" }')

.PHONY: torture
torture: $(DEV) $(RELEASED) ## Kill, fail, race and interrupt for some 20 minutes
	TORTURE=$${TORTURE:-1} $(if $(MEMORY),TMPDIR=$(MEMORY)) \
		$(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
		--no-cov tests/reliability $(ARGS)

.PHONY: check
check: $(DEV) ## Check style, types and documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(MAKE) --no-print-directory docs

.PHONY: docs
docs: $(DEV) ## Build the documentation in docs/_build/html
	@rm -rf docs/_build
	$(BIN)/sphinx-build -W -n --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

.PHONY: format
format: $(DEV) ## Mend style as far as tools can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(UV) $(RELEASED) ## Run the benchmarks, BENCH="load publish" some of them
	@for name in $(BENCH); do \
		echo "== $$name"; $(UV) run --quiet benchmarks/$$name.py $(ARGS); done

.PHONY: clean
clean: ## Remove environments, caches and everything built
	rm -rf $(VENV) $(RELEASE_VENV) docs/_build build dist htmlcov
	rm -rf .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. A stamp is written last, so an installation that was
# interrupted is done again.

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
		echo 'make: Python 3.11 or newer is needed; name one with PYTHON=...' >&2; \
		exit 1; fi
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(RUNTIME): pyproject.toml | $(VENV)/.created
	@echo "Installing audmodel in $(VENV) ..."
	@$(PIP) install --editable .
	@touch $@

$(DEV): pyproject.toml $(RUNTIME)
	@echo "Installing tools for tests, checks and documentation ..."
	@$(PIP) install --group dev
	@touch $@

$(BIN)/uv: | $(VENV)/.created
	@$(PIP) install --group bench

$(RELEASED):
	@echo "Installing audmodel $(RELEASE) in $(RELEASE_VENV) ..."
	@$(PYTHON) -m venv --clear $(RELEASE_VENV)
	@$(RELEASE_VENV)/bin/python -m pip --disable-pip-version-check -qq \
		install 'audmodel==$(RELEASE)'
	@touch $@
