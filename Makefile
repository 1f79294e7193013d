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

##@ Every day
.PHONY: help
help: ## list the targets
	@awk '/^##@ / { group = substr($$0, 5) } \
	  /^[a-z-]+:.*## / { if (group != "") { printf "%s%s\n", (shown++ ? "\n" : ""), group; group = "" } \
	    target = $$0; sub(/:.*/, "", target); text = $$0; sub(/^[^#]*## /, "", text); printf "  %-16s %s\n", target, text }' $(MAKEFILE_LIST)

# What was written behind `make`, in any case of letters. Nothing else counts: a SEED or FORCE of the environment does not.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
capitals = $(shell tr '[:lower:]' '[:upper:]' <<< '$(1)')
# Values go to commands through the environment, as they were written: pasted into a command, an apostrophe or a $$ would be
# the shell's, and make's own before that.
$(foreach name,$(GIVEN),$(foreach spelling,$(name) $(call capitals,$(name)), \
  $(eval override $(spelling) := $$(value $(name)))$(eval export $(spelling))))
NAMES := $(sort $(foreach name,$(GIVEN),$(call capitals,$(name))))
# Variables of targets that are no parameters of the pipeline; those are in pipeline/parameters.py, which knows every other name.
SETTINGS := PYTHON
ASSIGNMENTS = $(foreach name,$(GIVEN),$(if $(value $(name)),$(if $(filter $(call capitals,$(name)),$(SETTINGS)),,"$(name)=$$$(name)")))
# An option of a command, where its variable was given.
option = $(if $(filter $(2),$(NAMES)),$(1) "$$$(2)")

.PHONY: pipeline
pipeline: $(VENV)/ready ## the main job on this machine: from bins to a verified endpoint; `make pipeline EPOCHS=3`
	@$(BIN)/python -m pipeline run $(ASSIGNMENTS)

.PHONY: runs
runs: $(VENV)/ready ## every run on this machine on one page: parameters, data, figures, verdict, and its own pages
	@$(BIN)/python -m pipeline runs

.PHONY: parameters
parameters: $(VENV)/ready ## every parameter: what it takes, its default, where it may be used
	@$(BIN)/python -m pipeline parameters

.PHONY: clean
clean: ## remove everything a local run keeps: store, cache, results
	@rm -rf .local build

##@ Changing the code
.PHONY: lint
lint: $(VENV)/ready ## ruff (lint and format), import rules and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/mypy

.PHONY: test
test: $(VENV)/ready ## the tests, without the slow ones
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not cluster and not images"

.PHONY: coverage
coverage: $(VENV)/ready ## the same tests with the lines that none of them runs, also in what they start
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not cluster and not images" --cov --cov-report term-missing:skip-covered

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
