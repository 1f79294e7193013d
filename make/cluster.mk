##@ Images and clusters
# Images, compilation and runs on a cluster. TAG is immutable: the git revision of the code.
SETTINGS += BASE_IMAGE UPDATES SOURCE_URL OVERLAY STORAGE_URI RUNTIME TO PUSH_FLAGS BUILD_FLAGS SIGN SIGN_FLAGS STEPS

REGISTRY :=
REVISION := $(shell git describe --always --abbrev=12 --exclude='*' --dirty=-changed 2>/dev/null || echo dev)
TAG := $(REVISION)
BASE_IMAGE := $(shell sed -n 's/^ARG BASE_IMAGE=//p' docker/Dockerfile)
UPDATES :=
BUILD_FLAGS :=
PUSH_FLAGS :=
SIGN :=
SIGN_FLAGS :=
export REGISTRY TAG BASE_IMAGE
PREFIX = $(if $(REGISTRY),$(REGISTRY:%/=%)/)
IMAGES := pipeline train serve serve-gpu
# A docker command without an engine behind it is of no use.
BUILDER = $(shell if docker info >/dev/null 2>&1; then echo docker; \
  else basename "$$(command -v podman || command -v buildah)"; fi)

# What the labels say of where an image comes from.
BASE_DIGEST = $(or $(word 2,$(subst @, ,$(BASE_IMAGE))),$(shell $(BASE_DIGEST_OF_$(BUILDER)) $(BASE_IMAGE) 2>/dev/null),unknown)
BASE_DIGEST_OF_docker = docker image inspect --format '{{index .RepoDigests 0}}'
BASE_DIGEST_OF_podman = podman image inspect --format '{{.Digest}}'
BASE_DIGEST_OF_buildah = buildah inspect --type image --format '{{.FromImageDigest}}'
SOURCE_URL ?= $(shell git remote get-url origin 2>/dev/null | sed 's|//[^/@]*@|//|')
CREATED := $(shell git show --no-patch --format=%cI HEAD 2>/dev/null)
LABELS = version=$(TAG) revision=$(REVISION) created=$(CREATED) source=$(or $(SOURCE_URL),unknown) \
  base.name=$(firstword $(subst @, ,$(BASE_IMAGE))) base.digest=$(BASE_DIGEST)

.PHONY: images push archives base
images: $(IMAGES:%=image-%) ## build the container images; `make images REGISTRY=… TAG=… BASE_IMAGE=… UPDATES=2026-12-01`

# Docker and podman keep layers by themselves; buildah has to be told.
image-%:
	@test -n "$(BUILDER)" || { echo "error: No docker, podman or buildah was found; install one of them."; exit 1; }
	$(BUILDER) build $(if $(filter buildah,$(BUILDER)),--layers) --file docker/Dockerfile --build-arg BASE_IMAGE=$(BASE_IMAGE) \
	  --build-arg IMAGE=$* $(if $(UPDATES),--build-arg UPDATES=$(UPDATES)) $(LABELS:%=--label org.opencontainers.image.%) $(BUILD_FLAGS) \
	  --tag $(PREFIX)bin-counter-$*:$(TAG) .

push: $(IMAGES:%=push-%) ## push them; `make push REGISTRY=… TAG=…`, and sign them with cosign: SIGN=1 SIGN_FLAGS='--key cosign.key'

push-%:
	@test -n "$(REGISTRY)" || { echo "error: No registry was given; write make push REGISTRY=<host>/<path>."; exit 1; }
	@test -z "$(SIGN)" || command -v cosign >/dev/null || { echo "error: SIGN=1 needs cosign, which is not installed."; exit 1; }
	$(BUILDER) push $(PUSH_FLAGS) $(PREFIX)bin-counter-$*:$(TAG)
	$(if $(SIGN),cosign sign --yes $(SIGN_FLAGS) $(PREFIX)bin-counter-$*:$(TAG))

# Podman and buildah call a local image localhost/…, which no pod asks for; in the archive it has the name that pods use.
archives: $(IMAGES:%=archive-%) ## write build/images/*.tar, for a kind without a registry; `make archive-serve TAG=…` writes one
archive-%:
	@mkdir -p build/images && rm -f build/images/bin-counter-$*.tar
	$(if $(filter docker,$(BUILDER)),docker save --output build/images/bin-counter-$*.tar $(PREFIX)bin-counter-$*:$(TAG),\
	  $(BUILDER) push --quiet $(PREFIX)bin-counter-$*:$(TAG) docker-archive:build/images/bin-counter-$*.tar:$(PREFIX)bin-counter-$*:$(TAG))

base: ## write the digest of today's base image into docker/Dockerfile; with skopeo
	@name='$(firstword $(subst @, ,$(BASE_IMAGE)))' && digest=$$(skopeo inspect --format '{{.Digest}}' "docker://$$name") \
	  && sed -i "s|^ARG BASE_IMAGE=.*|ARG BASE_IMAGE=$$name@$$digest|" docker/Dockerfile && echo "$$name@$$digest"

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

test-cluster: $(VENV)/ready ## on a real API server (KUBEBUILDER_ASSETS) or a whole cluster (KUBECONFIG, KFP_HOST); `STEPS=canary`
	@test -n '$(KUBEBUILDER_ASSETS)$(KUBECONFIG)' || { echo "error: set KUBEBUILDER_ASSETS to a folder with etcd and \
	kube-apiserver (setup-envtest use --print path), or KUBECONFIG to a cluster with KServe, and KFP_HOST to its KFP" >&2; exit 2; }
	@KFP_HOST='$(KFP_HOST)' NAMESPACE='$(or $(NAMESPACE),kubeflow)' REGISTRY='$(REGISTRY)' TAG='$(TAG)' \
	  $(BIN)/pytest tests/cluster -m cluster $(if $(STEPS),-k '$(STEPS)')

.venv-checkov/ready: requirements/checkov.txt | $(VENV)/ready
	@$(BIN)/python -m venv .venv-checkov
	@$(SYNC) --python .venv-checkov/bin/python requirements/checkov.txt
	@touch $@

.PHONY: checkov
checkov: .venv-checkov/ready ## checkov on the built manifests and the Dockerfile
	@$(BIN)/pytest tests/manifests/test_scanners.py
