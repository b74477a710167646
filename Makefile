# Everything a person or a CI server runs. Each target brings its own set-up: a virtual
# environment in .venv, made when setup.cfg or pyproject.toml change and left alone otherwise.

.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKED := lima2_core camera_plugins processing tango_servers client db_config benchmarks

# One process uses the cores it was given: kernels must not start threads of their own.
export OMP_NUM_THREADS ?= 1
export LIMA2_TEST_DATA ?= $(abspath ../shared/data)

# Scripts of a virtual environment name their folder; in a copied checkout they name the old one.
HOME_IS_HERE := $(shell grep -qsF '$(CURDIR)/$(VENV)' $(BIN)/activate && echo yes)

.PHONY: help
help: ## show this list
	@echo "make TARGET [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(STAMP) ## a whole simulated system on this machine: database, servers, one acquisition
	$(BIN)/lima2 demo

.PHONY: demo-jungfrau
demo-jungfrau: $(STAMP) ## the same with an emulated JUNGFRAU: packets over UDP to photons
	$(BIN)/lima2 demo --jungfrau

.PHONY: test
test: check system-packages ## every check and every test
	$(BIN)/python -m pytest

.PHONY: check
check: $(STAMP) ## format, style, types and layers; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports --no-logo

.PHONY: bench
bench: $(STAMP) ## all benchmarks, one JSON line each; BENCH="name ..." selects
	$(BIN)/python -m benchmarks $(BENCH)

.PHONY: venv
venv: $(STAMP) ## only the virtual environment

.PHONY: system-packages
system-packages: ## what the tests can use of the system, where root may install it
	@scripts/system-packages

.PHONY: clean
clean: ## remove what was made here, the virtual environment included
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.cfg pyproject.toml $(if $(HOME_IS_HERE),,moved)
	@scripts/make-venv "$(PYTHON)" $(VENV)
	@touch $@

# No file of this name: a prerequisite that always calls for the rule above.
.PHONY: moved
moved:
