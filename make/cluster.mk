# Images, compilation and runs on a cluster. TAG is immutable: the git revision of the code.
SETTINGS += BASE_IMAGE OVERLAY STORAGE_URI RUNTIME TO PUSH_FLAGS BUILD_FLAGS

REGISTRY :=
REVISION := $(shell git describe --always --abbrev=12 --exclude='*' --dirty=-changed 2>/dev/null || echo dev)
TAG := $(REVISION)
BASE_IMAGE :=
BUILD_FLAGS :=
PUSH_FLAGS :=
export REGISTRY TAG BASE_IMAGE
PREFIX = $(if $(REGISTRY),$(REGISTRY:%/=%)/)
IMAGES := pipeline train serve serve-gpu
# A docker command without an engine behind it is of no use.
BUILDER = $(shell if docker info >/dev/null 2>&1; then echo docker; \
  else basename "$$(command -v podman || command -v buildah)"; fi)

.PHONY: images push
images: $(IMAGES:%=image-%) ## build the container images; `make images REGISTRY=… TAG=… BASE_IMAGE=…`

image-%:
	@test -n "$(BUILDER)" || { echo "error: No docker, podman or buildah was found; install one of them."; exit 1; }
	$(BUILDER) build --file docker/Dockerfile $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
	  --build-arg IMAGE=$* --build-arg UV_VERSION=$(UV_VERSION) --build-arg VERSION=$(TAG) \
	  --build-arg REVISION=$(REVISION) $(BUILD_FLAGS) --tag $(PREFIX)bin-counter-$*:$(TAG) .

push: $(IMAGES:%=push-%) ## push them; `make push REGISTRY=… TAG=…`

push-%:
	@test -n "$(REGISTRY)" || { echo "error: No registry was given; write make push REGISTRY=<host>/<path>."; exit 1; }
	$(BUILDER) push $(PUSH_FLAGS) $(PREFIX)bin-counter-$*:$(TAG)

.PHONY: compile submit schedule
compile: $(VENV)/ready ## write build/pipeline.yaml and build/pipeline-k8s.yaml; `make compile PRESET=gke`
	@$(BIN)/python -m pipeline compile $(ASSIGNMENTS)

submit: $(VENV)/ready ## run the pipeline on a cluster and follow it; `make submit KFP_HOST=… PRESET=gke EPOCHS=3`
	@$(BIN)/python -m pipeline submit $(ASSIGNMENTS)

schedule: $(VENV)/ready ## run it by a schedule; `make schedule KFP_HOST=… CRON='0 3 * * 1'`
	@$(BIN)/python -m pipeline schedule $(ASSIGNMENTS)

.PHONY: source
source: $(VENV)/ready ## fill a cluster's source bucket through a port-forward; `make source SOURCE=<folder>` (or generated)
	@$(BIN)/python -m pipeline source $(call option,--to,TO) $(ASSIGNMENTS)

.PHONY: golden
golden: $(VENV)/ready ## take over a changed DAG as the one that tests/compile expects
	@$(BIN)/python -m pipeline compile --golden tests/compile/pipeline.yaml

.PHONY: manifests
OVERLAY := local
export OVERLAY
manifests: $(VENV)/ready ## write build/manifests.yaml with your images; with VERSION=… also a model that serves
	@$(BIN)/python -m pipeline manifests --overlay "$$OVERLAY" --registry "$$REGISTRY" --tag "$$TAG" \
	  $(call option,--version,VERSION) $(call option,--models-uri,MODELS_URI) \
	  $(call option,--storage-uri,STORAGE_URI) $(call option,--runtime,RUNTIME)

.PHONY: test-images test-cluster
test-images: $(VENV)/ready ## build the images and run what is in them; as root, with buildah and debootstrap
	@$(BIN)/pytest tests/images -m images --timeout 7200

test-cluster: $(VENV)/ready ## manifests and deploy against a real API server: KUBEBUILDER_ASSETS, KUBECONFIG (tests/cluster)
	@test -n '$(KUBEBUILDER_ASSETS)$(KUBECONFIG)' || { echo "error: set KUBEBUILDER_ASSETS to a folder with etcd and \
	kube-apiserver (setup-envtest use --print path), or KUBECONFIG to a cluster with KServe" >&2; exit 2; }
	@$(BIN)/pytest tests/cluster -m cluster

.venv-checkov/ready: requirements/checkov.txt | $(VENV)/ready
	@$(BIN)/python -m venv .venv-checkov
	@$(BIN)/uv pip sync --quiet --python .venv-checkov/bin/python requirements/checkov.txt
	@touch $@

.PHONY: checkov
checkov: .venv-checkov/ready ## checkov on the built manifests and the Dockerfile
	@$(BIN)/pytest tests/manifests/test_scanners.py
