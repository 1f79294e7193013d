##@ Measurements
.PHONY: bench-pipeline
bench-pipeline: $(VENV)/ready ## time, memory and accuracy of `make pipeline`
	@$(BIN)/python -m benchmarks.pipeline

# The tables in the order of a reader's questions: does it work, how well, how fast, at which size, on a cluster.
RESULT_TABLES := $(wildcard $(addprefix benchmarks/results/,pipeline.md seeds.md record.md audit.md accuracy.md train.md serve.md attack.md data.md cluster.md))

.PHONY: results
results: ## put the tables of the benchmarks together in benchmarks/RESULTS.md
	@{ printf '# Results\n\nEach table comes from the command in its heading; goals that were missed are marked so.\n\n'; \
	  printf 'Rows of 2026-11-25 and before were measured with version 0.1.0. Since then the split leaves a gap at block edges and\n'; \
	  printf 'probabilities are calibrated in another way: accuracy has to be measured anew, and speed was not measured again.\n'; \
	  for table in $(RESULT_TABLES); do echo; sed 's/^#/##/' $$table; done; } > benchmarks/RESULTS.md

.PHONY: bench-record
bench-record: $(VENV)/ready ## whether wrong records are found, on seeds 9, 10 and 11 of the real sample
	@$(BIN)/python -m benchmarks.record

.PHONY: bench-audit
bench-audit: $(VENV)/ready ## how many wrong records an audit of drawn bins finds, by the model of the last run; MODEL
	@$(BIN)/python -m benchmarks.audit --model "$$MODEL"
