# The tasks of this project; `make help` lists them.
#
# All that has to be there is Python >= 3.11, git and make:
# a target creates the environment that it needs, and installs
# exactly the versions in requirements/, which `make lock` renews.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# A Python that is new enough: PYTHON=... makes another choice.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# One environment that grows with what is asked of it.
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
TEST := $(VENV)/.test
ALL := $(VENV)/.all
CHECK := $(VENV)/.check
BENCHED := $(VENV)/.bench

# Others, for other versions: of what audmodel needs, and of audmodel itself.
OLDEST := .venv-oldest/.ready
LATEST := .venv-latest/.ready
RELEASED := .venv-1.5.3/.ready
LOCK := .venv-lock/.ready

# Processes that run tests: one more than there are cores, as tests wait for
# processes and servers, and eight at most. More arguments for pytest:
# make test ARGS="-k alias"
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 8 ? cores + 1 : 8)))
ARGS ?=
PYTEST := python -m pytest -n $(JOBS) --dist worksteal

# A part of the time would go into waiting for the disk, which tests need not do
# in memory, if there is enough of it. make test-all runs the same on the disk.
IN_MEMORY := $(if $(TMPDIR),,$(shell \
	grep -E '^\S+ /dev/shm ' /proc/mounts 2>/dev/null | grep -qv noexec \
	&& df -k --output=avail /dev/shm 2>/dev/null \
	| awk 'NR == 2 && $$1 > 8000000 { print "TMPDIR=/dev/shm" }'))

BENCH ?= load publish small_files round_trips memory movers scale parallel

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) \
	| sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' \
	| while IFS=$$'\t' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(DEMO) ## Publish, load and tag a model, and see what happens
	@$(BIN)/python examples/quickstart.py

.PHONY: test
test: $(TEST) $(RELEASED) ## Run the quick tests: all behaviour, a sample of each family of faults
	$(IN_MEMORY) $(BIN)/$(PYTEST) $(ARGS)

.PHONY: test-rest
test-rest: $(ALL) $(RELEASED) ## Run what test-all has beyond test
	$(BIN)/$(PYTEST) --part rest $(ARGS)

.PHONY: test-all
test-all: $(ALL) $(RELEASED) ## Run all tests, and measure coverage
	$(BIN)/$(PYTEST) --part all --cov --cov-report=term $(ARGS)

.PHONY: test-oldest
test-oldest: $(OLDEST) $(RELEASED) ## Run the quick tests with the oldest versions that users may have
	$(IN_MEMORY) .venv-oldest/bin/$(PYTEST) $(ARGS)

.PHONY: test-latest
test-latest: $(LATEST) $(RELEASED) ## Run the quick tests with the newest versions there are, unlocked
	$(IN_MEMORY) .venv-latest/bin/$(PYTEST) $(ARGS)

# TORTURE=10 make torture tries ten times as much.
.PHONY: torture
torture: $(ALL) $(RELEASED) ## Kill, fail, race and interrupt for some 20 minutes
	TORTURE=$${TORTURE:-1} $(IN_MEMORY) $(BIN)/$(PYTEST) --part all tests/reliability $(ARGS)

# What is known of earlier changes is kept in .mutants: a run may be stopped,
# and what it has left be done another day
MUTATIONS ?= 300
SEED ?= 1
MINUTES ?= 90

.PHONY: mutate
mutate: $(ALL) $(RELEASED) ## Change the code in many places: a test should notice each time
	$(BIN)/python -m tests.mutants $(MUTATIONS) $(SEED) --minutes $(MINUTES) $(ARGS)

.PHONY: check
check: $(CHECK) ## Check style, types and documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(MAKE) --no-print-directory docs

.PHONY: docs
docs: $(CHECK) ## Build the documentation in docs/_build/html
	@rm -rf docs/_build
	$(BIN)/sphinx-build -W -n --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

.PHONY: format
format: $(CHECK) ## Mend style as far as tools can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(BENCHED) $(RELEASED) ## Run the benchmarks, BENCH="load publish" some of them
	@for name in $(BENCH); do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(ARGS); done

.PHONY: clean
clean: ## Remove environments, caches and everything built
	rm -rf $(VENV) .venv-*/ docs/_build build dist htmlcov
	rm -rf .coverage .coverage.* .hypothesis .mutants .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Locked versions. Files for smaller purposes have the versions of the largest,
# so that one environment can grow.

COMPILE = .venv-lock/bin/uv pip compile pyproject.toml --quiet --universal \
	--generate-hashes --no-emit-index-url --custom-compile-command 'make lock'

.PHONY: lock
lock: $(LOCK) ## Renew the locked versions in requirements/
	@constraints=requirements/everything.txt; trap "rm -f $$constraints" EXIT; \
	$(COMPILE) --upgrade --all-extras --group build --group check --group bench \
		-o $$constraints; \
	$(COMPILE) -c $$constraints -o requirements/demo.txt; \
	$(COMPILE) -c $$constraints --group build -o requirements/build.txt; \
	for group in test all check bench; do \
		$(COMPILE) -c $$constraints --all-extras --group $$group \
			-o requirements/$$group.txt; done
	@constraints=requirements/lowest.txt; trap "rm -f $$constraints" EXIT; \
	$(COMPILE) --upgrade --all-extras --resolution lowest-direct -o $$constraints; \
	$(COMPILE) --upgrade -c $$constraints --all-extras --group build --group test \
			-o requirements/oldest.txt
	@for group in released lock; do \
		$(subst compile pyproject.toml,compile,$(COMPILE)) --upgrade \
			--group $$group -o requirements/$$group.txt; done

# Environments. A stamp is written last, so an installation that was
# interrupted is done again.

PIP = $(@D)/bin/python -m pip --disable-pip-version-check --quiet --quiet
INSTALL = $(PIP) install --no-deps --require-hashes

$(VENV)/.created .venv-oldest/.created .venv-latest/.created \
.venv-1.5.3/.created .venv-lock/.created:
	@if [ -z "$(PYTHON)" ]; then \
		echo 'make: Python 3.11 or newer is needed; name one with PYTHON=...' >&2; \
		exit 1; fi
	@echo "Creating $(@D) ..."
	@$(PYTHON) -m venv --clear $(@D)
	@touch $@

$(DEMO): requirements/demo.txt requirements/build.txt pyproject.toml | $(VENV)/.created
	@echo "Installing audmodel in $(@D) ..."
	@$(INSTALL) -r requirements/build.txt -r requirements/demo.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TEST): requirements/test.txt $(DEMO)
	@echo "Installing what the tests need ..."
	@$(INSTALL) -r $<
	@touch $@

$(ALL): requirements/all.txt $(TEST)
	@echo "Installing what all tests need ..."
	@$(INSTALL) -r $<
	@touch $@

$(CHECK): requirements/check.txt $(ALL)
	@echo "Installing tools for checks and documentation ..."
	@$(INSTALL) -r $<
	@touch $@

$(BENCHED): requirements/bench.txt $(ALL)
	@echo "Installing what audmodel is compared with ..."
	@$(INSTALL) -r $<
	@touch $@

$(OLDEST): requirements/oldest.txt pyproject.toml | .venv-oldest/.created
	@echo "Installing audmodel with the oldest versions of what it needs ..."
	@$(INSTALL) -r $<
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# New versions come without a change of a file: it is made anew each time.
.PHONY: $(LATEST)
$(LATEST):
	@rm -rf $(@D)
	@$(MAKE) --no-print-directory $(@D)/.created
	@echo "Installing audmodel with the newest versions of what it needs ..."
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[catalog,completion,fsspec,sign]' --group test

$(RELEASED): requirements/released.txt | .venv-1.5.3/.created
	@echo "Installing audmodel 1.5.3 in $(@D) ..."
	@$(INSTALL) -r $<
	@touch $@

$(LOCK): requirements/lock.txt | .venv-lock/.created
	@$(INSTALL) -r $<
	@touch $@
