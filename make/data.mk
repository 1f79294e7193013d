##@ Data and clean-up
.PHONY: bench-data
bench-data: $(VENV)/ready ## ingest, split and download against what people use instead; 15 minutes
	@$(BIN)/python -m benchmarks.data

# Clean-up, on the store of this machine or on AWS_ENDPOINT_URL; the folders of this machine only with its own store.
SETTINGS += DAYS REMOVE RUNS
LOCAL := $(or $(BIN_COUNTER_HOME),.local)

.PHONY: prune
prune: $(VENV)/ready ## tell what no version and no run of the last 30 days (DAYS) uses, and results but the newest RUNS=20; REMOVE=1 removes it
	@$(BIN)/python -m pipeline.with_store $(BIN)/python -m components.prune $(call option,--days,DAYS) \
	  $(if $(AWS_ENDPOINT_URL),,$(foreach part,cache/pixels cache/features kfp,--folder "$(LOCAL)/$(part)") --home "$(LOCAL)") \
	  $(call option,--runs,RUNS) \
	  $(call option,--remove,REMOVE)
