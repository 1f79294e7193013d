##@ Training
.PHONY: bench-train bench-accuracy learning-curve tune
bench-train: $(VENV)/ready ## training speed against what people use instead; 15 minutes on idle cores
	@$(BIN)/python -m benchmarks.train

SEEDS := 1 2 3
SETTINGS += SEEDS
bench-accuracy: $(VENV)/ready ## accuracy on the real photos over seeds; 30 minutes a seed; `make bench-accuracy SEEDS="1 2"`
	@$(BIN)/python -m benchmarks.accuracy --seeds $(SEEDS)

tune: $(VENV)/ready ## the pipeline with a study of learning rate and batch size before the training; `make tune TRIALS=8`
	@$(BIN)/python -m pipeline run $(ASSIGNMENTS) TUNE=true

learning-curve: $(VENV)/ready ## accuracy against training images, with a fitted power law; RECIPE=frozen SOURCE=generated
	@$(BIN)/python -m benchmarks.learning_curve $(call option,--source,SOURCE) $(call option,--recipe,RECIPE)
