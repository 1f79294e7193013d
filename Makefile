.DEFAULT_GOAL := help
SHELL := /bin/bash
UV_VERSION := 0.13.9
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin

$(VENV)/ready: requirements/dev.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements/dev.txt
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

.PHONY: test-slow
test-slow: $(VENV)/ready ## the slow tests: faults, kills, interrupts, a full disk
	@$(BIN)/pytest -m "slow and not cluster and not images" --timeout 3600

.PHONY: lock
lock: $(VENV)/ready ## resolve requirements/*.in into the locked sets
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header requirements/dev.in -o requirements/dev.txt
	@for image in pipeline train serve; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --constraint requirements/dev.txt requirements/$$image.in -o requirements/$$image.txt; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --constraint requirements/serve.txt requirements/serve-gpu.in -o requirements/serve-gpu.txt

include $(wildcard make/*.mk)
