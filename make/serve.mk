MODEL := .local/latest/model
PORT := 8080
IMAGE :=
PORT_GRPC := 8081
SETTINGS += MODEL PORT IMAGE PORT_GRPC
export MODEL PORT IMAGE PORT_GRPC

.PHONY: serve
serve: $(VENV)/ready ## the endpoint on the version in service, until Ctrl-C; VERSION=… another one, MODEL=… a folder; PORT
	@exec $(BIN)/python -m pipeline.serve --port "$$PORT" --port-grpc "$$PORT_GRPC" \
	  $(call option,--version,VERSION) $(call option,--model,MODEL)

.PHONY: predict
predict: ## ask the running endpoint: make predict IMAGE=bin.jpg
	@test -n "$$IMAGE" || { echo "error: name a photo: make predict IMAGE=bin.jpg" >&2; exit 2; }
	@test -r "$$IMAGE" || { echo "error: there is no file '$$IMAGE'" >&2; exit 2; }
	@curl --noproxy localhost,127.0.0.1 --silent --show-error --header 'Content-Type: image/jpeg' --data-binary "@$$IMAGE" \
	  "http://127.0.0.1:$$PORT/v1/models/bin-counter:predict" && echo \
	  || { echo "error: no endpoint answers on port $$PORT; start it with make serve" >&2; exit 1; }

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
