.PHONY: bench-data
bench-data: $(VENV)/ready ## ingest, split and download against what people use instead; 15 minutes
	@$(BIN)/python -m benchmarks.data
