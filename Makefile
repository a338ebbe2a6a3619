# `make run` and `make test` set up what they need; every other target assumes that they did.

CARGO ?= cargo
DATA ?= data
ARGS ?=

.PHONY: help
help: ## Say what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: run
run: setup ## Build and run an object store that keeps its objects in DATA (default: data)
	$(CARGO) build --release --quiet --bin ashlar
	@exec target/release/ashlar up --data $(DATA) $(ARGS)

.PHONY: test
test: setup ## Build everything, check and test it
	scripts/test.sh

.PHONY: setup
setup:
	@scripts/setup.sh

.PHONY: kernel-programs
kernel-programs: ## Install the kernel programs' toolchain and build them
	scripts/setup-kernel-toolchain.sh
	scripts/build-kernel-programs.sh

.PHONY: soak
soak: setup ## Long campaigns: simulations, hand-off, fuzzing (hours; MINUTES=10 each)
	scripts/soak.sh

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all
