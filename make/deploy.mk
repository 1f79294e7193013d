##@ Versions
# The model registry: on the store of this machine, or on AWS_ENDPOINT_URL where that is set.
SETTINGS += VERSION TARGET
export VERSION TARGET
VERSION :=
TARGET := $(if $(AWS_ENDPOINT_URL),kserve,local)

.PHONY: models
models: $(VENV)/ready ## the model versions: which one serves, figures, recipe, data, and whether the gate was overruled
	@$(BIN)/python -m pipeline.with_store $(BIN)/python -m components.deploy models

.PHONY: export
export: $(VENV)/ready ## a version with a model card in build/models/<version>: make export VERSION=3f2a91c04d5e
	@test -n "$$VERSION" || { echo "error: name a version: make export VERSION=… (make models lists them)" >&2; exit 2; }
	@$(BIN)/python -m pipeline.with_store $(BIN)/python -m components.deploy export "$$VERSION"

.PHONY: rollback
rollback: $(VENV)/ready ## put an earlier version back, checked like a new one: make rollback VERSION=3f2a91c04d5e
	@test -n "$$VERSION" || { echo "error: name a version: make rollback VERSION=… (make models lists them)" >&2; exit 2; }
	@$(BIN)/python -m pipeline.with_store $(BIN)/python -m components.deploy rollback "$$VERSION" --target "$$TARGET" \
	  $(call option,--options,DEPLOY_OPTIONS)
