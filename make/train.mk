.PHONY: bench-train learning-curve tune
bench-train: $(VENV)/ready ## training speed against what people use instead; 15 minutes on idle cores
	@$(BIN)/python -m benchmarks.train

tune: $(VENV)/ready ## the pipeline with a study of learning rate and batch size before the training; `make tune TRIALS=8`
	@$(BIN)/python -m pipeline run $(ASSIGNMENTS) TUNE=true

learning-curve: $(VENV)/ready ## accuracy against training images, with a fitted power law; RECIPE=frozen SOURCE=generated
	@$(BIN)/python -m benchmarks.learning_curve --source $(or $(SOURCE),generated) --recipe $(or $(RECIPE),frozen)
