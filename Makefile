.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin

# Nothing is installed whose hash is not in a lock: not a package, and not what a source package is built with.
SYNC = $(BIN)/uv pip sync --quiet --require-hashes --require-build-hashes --build-constraints requirements/build.txt

$(VENV)/ready: requirements/dev.txt requirements/uv.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	@$(SYNC) --python $(BIN)/python requirements/dev.txt
	@touch $@

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

# What `make pipeline` and `make submit` take as NAME=value; the descriptions are in pipeline/parameters.py.
PARAMETERS := SOURCE LIMIT MAX_COUNT SEED VALIDATION_SHARE TEST_SHARE FILE_LISTS MAX_REJECT_SHARE RECIPE EPOCHS \
  IMAGE_SIZE BACKBONE WEIGHTS OVERRIDES TUNE TRIALS MARGIN FORCE DATA_URI MODELS_URI
SETTINGS := PYTHON
# Unknown names are passed on too, so that a misspelt one is answered with a sentence and not ignored.
GIVEN = $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
ASSIGNMENTS = $(foreach name,$(PARAMETERS),$(if $($(name)),$(name)='$($(name))')) \
  $(foreach name,$(filter-out $(PARAMETERS) $(SETTINGS),$(GIVEN)),'$(name)=')

.PHONY: pipeline
pipeline: $(VENV)/ready ## the main job on this machine: from bins to a verified endpoint; `make pipeline EPOCHS=3`
	@$(BIN)/python -m pipeline run $(ASSIGNMENTS)

.PHONY: parameters
parameters: $(VENV)/ready ## what the pipeline takes, with defaults
	@$(BIN)/python -m pipeline run --help

.PHONY: clean
clean: ## remove everything a local run keeps: store, cache, results
	@rm -rf .local build

.PHONY: lint
lint: $(VENV)/ready ## ruff (lint and format), import rules and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/mypy

.PHONY: test
test: $(VENV)/ready ## the tests, without the slow ones
	@$(BIN)/pytest -n 2 -m "not slow and not cluster and not images"

.PHONY: coverage
coverage: $(VENV)/ready ## the same tests with the lines that none of them runs, also in what they start
	@$(BIN)/pytest -n 2 -m "not slow and not cluster and not images" --cov --cov-report term-missing:skip-covered

.PHONY: test-slow
test-slow: $(VENV)/ready ## the slow tests: faults, kills, interrupts, a full disk
	@$(BIN)/pytest -m "slow and not cluster and not images" --timeout 3600

SETTINGS += UPGRADE
UPGRADE ?=
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --generate-hashes $(if $(UPGRADE),--upgrade)
# What an image leaves out although a package asks for it stands in requirements/<image>.excludes.
excludes = $$(test -f requirements/$(1).excludes && echo --excludes requirements/$(1).excludes)

.PHONY: lock
lock: $(VENV)/ready ## resolve requirements/*.in into the locked sets, with a hash for every file; UPGRADE=1 takes newer ones
	@$(LOCK) requirements/uv.in -o requirements/uv.txt
	@$(LOCK) --constraint requirements/uv.txt requirements/build.in -o requirements/build.txt
	@$(LOCK) requirements/dev.in -o requirements/dev.txt
	@for image in pipeline train serve; do $(LOCK) --constraint requirements/dev.txt $(call excludes,$$image) \
	  requirements/$$image.in -o requirements/$$image.txt || exit 1; done
	@$(LOCK) --constraint requirements/serve.txt $(call excludes,serve) requirements/serve-gpu.in -o requirements/serve-gpu.txt
	@for tool in bench checkov; do $(LOCK) requirements/$$tool.in -o requirements/$$tool.txt || exit 1; done

include $(wildcard make/*.mk)
