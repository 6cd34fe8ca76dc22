# The verbs of this repository; `make help` lists them. Everything runs from .venv, whose packages are checked by hash.
# pip's own configuration (PIP_*, pip.conf) says where packages come from; nothing here does.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Extras stay in the pins: pip before 24 would else take a newer release for `coverage[toml]` than the one that is pinned.
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	--annotation-style line --no-strip-extras --quiet
EXTRAS := agent broker client export fleet grpc hsm kubernetes postgres scoring
# Large, and wanted only by those who convert such models: not in .venv.
CONVERTERS := sklearn boosting tensorflow
# Branch coverage, in percent, below which `make coverage` fails.
COVERAGE ?= 80
ARGS ?=
# Each program that a test starts would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE
# Four files at a time: much of the suite waits for containers and brokers. A file's tests share what they start. In
# the order of their names, for xdist would take those with the most tests first, and so the longest last.
TOGETHER := -n 4 --dist loadfile --no-loadscope-reorder tests
# What `make coverage` asks of pytest besides.
MEASURE :=
# Many clients at once, and memory under their load: it runs alone.
LOAD := tests/modules/scoring/test_load.py
# Which of tests/benchmarks is run.
NAME ?= journey

.DEFAULT_GOAL := help
.PHONY: help venv lock demo screenshots test coverage test-long lint types collected unit journeys bench mutants clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

venv: .venv/.stamp ## make .venv from constraints.txt, each package checked by hash

.venv/.stamp: constraints.txt pyproject.toml
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --require-hashes -r constraints.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

lock: .venv/.stamp ## renew constraints.txt and deploy/locks/ from pyproject.toml (ARGS=--upgrade for newer versions)
	$(LOCK) $(EXTRAS:%=--extra %) --group dev $(ARGS) -o constraints.txt
	@for extra in $(EXTRAS) $(CONVERTERS); do \
		$(LOCK) --extra $$extra --constraints constraints.txt --upgrade -o deploy/locks/$$extra.txt || exit 1; \
	done
	$(LOCK) --group demo --constraints constraints.txt --upgrade -o deploy/locks/demo.txt

demo: .venv/.stamp ## fleet server, broker and a device on this machine
	$(BIN)/python -m deploy.demo $(ARGS)

screenshots: .venv/.stamp ## every page of the console, in both themes and at three widths, into .screenshots
	$(BIN)/python -m tests.screenshots $(ARGS)

test: ## all checks: as root on Debian it installs what they need, elsewhere it says what is missing
	@deploy/ci/packages
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -j 2 types collected
	$(BIN)/python -m pytest $(LOAD) $(ARGS)
	$(BIN)/python -m pytest --cache-clear $(TOGETHER) --ignore=tests/benchmarks --ignore=$(LOAD) $(MEASURE) $(ARGS) \
		|| $(BIN)/python -m tests.parts.again $(MEASURE) $(if $(MEASURE),--cov-append)

# Apart, because it makes each test half as slow again.
coverage: ## make test, and how much of the code its tests run
	@$(MAKE) --no-print-directory test MEASURE="--cov --cov-report="
	$(BIN)/coverage report --skip-covered --fail-under=$(COVERAGE)

test-long: .venv/.stamp ## the tests that no other verb runs: further journeys, attacks and variants, in about two hours
	$(if $(ARGS),,$(BIN)/python -m pytest -m long $(LOAD))
	$(if $(ARGS),,$(BIN)/python -m pytest -m "hypothesis and not long" --hypothesis-profile=default)
	$(BIN)/python -m pytest -m long --ignore=tests/benchmarks --ignore=$(LOAD) -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.stamp ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.stamp ## mypy, strict
	$(BIN)/mypy

# Each of the processes that run tests reads all of them: pytest compiles them once, here, and not once in each.
collected: .venv/.stamp
	@said=$$($(BIN)/python -m pytest --collect-only --quiet tests 2>&1) || { echo "$$said"; exit 1; }

unit: .venv/.stamp ## the tests that start no whole system
	$(BIN)/python -m pytest --ignore=tests/journeys --ignore=tests/benchmarks $(ARGS)

journeys: .venv/.stamp ## the tests that start whole systems
	$(BIN)/python -m pytest tests/journeys $(ARGS)

# Not part of test: measuring coverage would be part of what is measured.
bench: .venv/.stamp ## measure one thing, against its targets (NAME=journey)
	$(BIN)/python -m tests.benchmarks.$(NAME) $(ARGS)

# A survivor is a gap in the tests, or a change that makes no difference: a person says which.
mutants: .venv/.stamp ## ten minutes of small changes to the code, each of which a test should notice (ARGS=--seed=7)
	$(BIN)/python -m tests.mutants $(ARGS)

clean: ## remove .venv, caches, the demo's folder and the images that the demo built; end what a demo left running
	@if [ -e .demo/.edgefleet-demo ] && [ -x $(BIN)/python ]; then $(BIN)/python -m deploy.demo --clean; fi
	rm -rf .venv .demo .screenshots .cache .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if docker info >/dev/null 2>&1; then \
		docker image rm --force edgefleet-demo-scoring:cpu >/dev/null 2>&1 || true; \
	fi
