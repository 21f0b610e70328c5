# trackdl's commands. Needs Python 3.11 or newer and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Reordered, the files of few long tests would run last, and one process would wait for the other.
PYTEST = $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
COMPILE = $(BIN)/uv pip compile --quiet --no-emit-index-url --no-header --universal --python-version 3.11
# Without those that need a parameter: `run` here is the whole report.
ENTRIES := $(shell awk '/^    command:/ && last ~ /^  [a-z]*:$$/ {gsub("[ :]", "", last); print last} {last = $$0}' MLproject)

export MLFLOW_DISABLE_TELEMETRY ?= true

# The report's 27 letters, if they are next to the checkout.
ifneq ($(wildcard ../shared/data/greek_train),)
export TRACKDL_GREEK_DIR ?= $(abspath ../shared/data/greek_train)
endif
# The weights that the report's Task 3 starts from, likewise.
ifneq ($(wildcard ../shared/data/report_weights),)
export TRACKDL_REPORT_WEIGHTS ?= $(abspath ../shared/data/report_weights)
endif

.PHONY: help setup setup-crate run test test-slow test-faults check docs ui lock pictures scale bench gpu-check grid-padded $(ENTRIES)

help: ## Explain the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-17s %s\n", $$1, $$2}'
	@echo "make NAME         Run entry point NAME: $(ENTRIES)."

setup: $(READY) ## Create .venv from requirements.lock, if it has changed.

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "trackdl needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "This Python has no venv module (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.lock, which takes some minutes"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $(READY)

setup-crate: .venv-crate/.ready ## Create .venv-crate for tests: RO-Crate's public validator, whose pins conflict with ours.

.venv-crate/.ready: requirements-crate.lock
	$(PYTHON) -m venv .venv-crate
	.venv-crate/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-crate.lock
	@touch .venv-crate/.ready

.venv-docs/.ready: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-docs.lock
	@touch .venv-docs/.ready

run: $(READY) ## The whole report, by `mlflow run`: get the data, train, compare with the report's numbers.

	@$(MAKE) --no-print-directory data
	@$(MAKE) --no-print-directory main

$(ENTRIES): $(READY)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mlflow run . -e $@ --env-manager local --experiment-name trackdl

grid-padded: $(READY) ## Task 2's grid with padding, a variant of ours: experiments/grid-padded.yaml.
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mlflow run . -e grid --env-manager local --experiment-name trackdl \
	  -P file=experiments/grid-padded.yaml

test: $(READY) check ## Lint, types, the quick tests and one task on real data: about nine minutes.
	$(PYTEST)

test-slow: $(READY) setup-crate ## Test whole tasks, pages in a browser and servers: about 20 minutes.
	$(PYTEST) -m slow

test-faults: $(READY) ## Test kills, outages, full disks and bad input with real stores: about ten minutes.
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-cluster.lock
	$(PYTEST) -m faults

check: $(READY) ## Lint and types only.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32

docs: $(READY) .venv-docs/.ready ## The documentation as a site, build/docs/index.html; a dead link is an error.
	$(BIN)/python -m tools.reference
	$(BIN)/python -m typer trackdl.cli.app utils docs --name trackdl --title Commands --output build/reference/commands.md
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

ui: $(READY) ## Show runs, models and studies in a browser: http://127.0.0.1:5000, as `trackdl ui` does.
	$(BIN)/trackdl ui

lock: $(READY) ## Renew the pins: all lock files but requirements-crate.lock, and conda.yaml from requirements.lock.
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(COMPILE) --extra bench -c requirements.lock pyproject.toml -o requirements-bench.lock
	$(COMPILE) --extra postgres --extra ray -c requirements.lock pyproject.toml -o requirements-cluster.lock
	$(COMPILE) --group docs -c requirements.lock -o requirements-docs.lock
	$(BIN)/python tools/conda_env.py

pictures: $(READY) ## Copy the README's figures from the newest runs, and take its screenshots.
	$(BIN)/python -m tools.pictures
	$(BIN)/python -m tools.screenshots

scale: $(READY) ## Measure how stores and driver scale from 1 to 32 workers: benchmarks/scale.py.
	$(BIN)/python benchmarks/scale.py

gpu-check: $(READY) ## The same experiments on GPU and CPU: agreement, repeatability, speed.
	$(BIN)/python benchmarks/gpu.py

bench: $(READY) ## Measure one fit against a plain loop, skorch and Lightning: benchmarks/fit.py.
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-bench.lock
	$(BIN)/python benchmarks/fit.py
