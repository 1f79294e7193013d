##@ The endpoint
MODEL := .local/latest/model
PORT := 8080
IMAGE :=
PORT_GRPC := 8081
SETTINGS += MODEL PORT IMAGE PORT_GRPC QUANTITY JSON
export MODEL PORT IMAGE PORT_GRPC

.PHONY: serve
serve: $(VENV)/ready ## the endpoint on the version in service, until Ctrl-C; VERSION=… another one, MODEL=… a folder; PORT
	@exec $(BIN)/python -m pipeline.serve --port "$$PORT" --port-grpc "$$PORT_GRPC" \
	  $(call option,--version,VERSION) $(call option,--model,MODEL)

.PHONY: predict
predict: $(VENV)/ready ## ask the running endpoint: IMAGE=<a photo, or a folder of photos>; QUANTITY on record, JSON=1 for programs, PORT
	@$(BIN)/python -m pipeline.predict --image "$$IMAGE" --port "$$PORT" $(call option,--quantity,QUANTITY) $(call option,--json,JSON)

.PHONY: bench-serve
bench-serve: $(VENV)/ready .venv-bench/ready ## the serving table: this server against its alternatives
	@$(BIN)/python -m benchmarks.serve

.venv-bench/ready: requirements/bench.txt | $(VENV)/ready
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench
	@$(SYNC) --python .venv-bench/bin/python requirements/bench.txt
	@touch $@

.PHONY: soak-serve
soak-serve: $(VENV)/ready ## ten minutes at saturation, a tenth of it bad input; MODEL
	@$(BIN)/python -m benchmarks.soak --model "$$MODEL"

.PHONY: fuzz-serve
fuzz-serve: $(VENV)/ready ## the long fuzz of the endpoint: 20,000 damaged photos, and requests from its OpenAPI
	@BIN_COUNTER_FUZZ=20000 $(BIN)/pytest tests/serve/test_fuzz.py -q --timeout 7200 -m "not slow"

.PHONY: attack-serve
attack-serve: $(VENV)/ready ## hostile requests of every kind beside honest photos, for two minutes; MODEL
	@$(BIN)/python -m benchmarks.attack $(call option,--model,MODEL)
