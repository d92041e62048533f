# `make` lists the targets. Go is all that `make demo` and `make test` need.

GO ?= go
BIN := .bin

# Every module of the repository, found and not listed: a new one is tested from its first commit.
# The modules below tools hold pinned programs and no packages.
MODULES := $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path '*/testdata/*' -not -path '*/node_modules/*')))
TOOLS   := $(filter ./tools ./tools/%,$(MODULES))
CODE    := $(filter-out $(TOOLS),$(MODULES))

# Runs command $(2) in each of the modules $(1), all of them even when one fails, and names those that did.
define each
failed=; \
for module in $(1); do \
	echo "==> $$module: $(strip $(2))"; \
	(cd $$module && $(2)) || failed="$$failed $$module"; \
done; \
if [ -n "$$failed" ]; then echo "$@: failed in$$failed" >&2; exit 1; fi
endef

# Prints the tree of the work tree's files as git would commit them, without touching the index.
define tree
index=$$(mktemp); rm -f $$index; GIT_INDEX_FILE=$$index git add -A && GIT_INDEX_FILE=$$index git write-tree; rm -f $$index
endef

# Builds packages $(1) of the examples into .bin.
define build
echo "==> building the examples (the first time: downloads the modules and compiles them, about 2 minutes on two cores)"; \
mkdir -p $(BIN) && cd examples && $(GO) build -o ../$(BIN)/ $(1)
endef

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build-examples
build-examples: ## Build the example programs into .bin
	@$(call build,./cmd/...)

# The demo is one program, and the first thing that a new user waits for.
.PHONY: build-demo
build-demo:
	@$(call build,./cmd/demo)

.PHONY: demo
demo: build-demo ## Show one request from a web page through gRPC into a database as one trace; ends by itself
	@$(BIN)/demo

.PHONY: run
run: build-demo ## Start the users service and the web page and keep them serving until Ctrl-C
	@$(BIN)/demo -serve

# .bin/stack is the command that starts and stops the others; its state is in .bin too.
.PHONY: stack-command
stack-command:
	@mkdir -p $(BIN) && cd tests && $(GO) build -o ../$(BIN)/ ./cmd/stack

.PHONY: stack
stack: build-examples stack-command ## Start Jaeger, Prometheus and the example under load, without Docker (STACK=-free-ports: on others than the usual ports)
	@$(BIN)/stack $(STACK) up

.PHONY: stack-down
stack-down: stack-command ## Stop what make stack started
	@$(BIN)/stack down

.PHONY: test
test: ## Vet and test every module
	@echo "==> testing $(CODE) (the first time: downloads the modules and compiles them, 5 to 8 minutes on two cores)"
	@$(call each,$(CODE),$(GO) vet ./... && $(GO) test ./...)

.PHONY: race
race: ## Test every module with the race detector (needs cgo and a C compiler)
	@$(call each,$(CODE),CGO_ENABLED=1 $(GO) test -race ./...)

# The tests with ten thousand calls would take most of the time, and show nothing new the second time.
.PHONY: stress
stress: ## Run the tests of calls and streams COUNT times, 20 by default, with the race detector
	@cd interceptors && CGO_ENABLED=1 $(GO) test -race -count $(or $(COUNT),20) -timeout 60m -skip 'TenThousand|MadeUp' .

.PHONY: e2e
e2e: stack-command ## Run the end-to-end tests, the demo's among them (needs redis-server and chromium; builds Jaeger and Prometheus once)
	@$(BIN)/stack build
	@echo "==> building the OpenTelemetry Collector (the first time: a few minutes)"
	@$(GO) -C tools/otelcol tool -n otelcol >/dev/null
	@echo "==> end to end: builds the example programs and runs them as processes"
	@cd tests && $(GO) test -count=1 -timeout 30m -tags e2e ./e2e/... ./stack ./cmd/figures
	@echo "==> end to end: the limiter that servers share, against a redis-server that the tests start"
	@cd interceptors/redislimit && $(GO) test -count=1 -tags e2e ./...

.PHONY: screenshots
screenshots: ## Take the pictures of the page in docs/images, of the system that the end-to-end test starts (needs chromium)
	@mkdir -p docs/images && cd tests && $(GO) test -count=1 -tags e2e ./e2e -run TestPage -screenshots ../../docs/images

.PHONY: figures
figures: build-examples ## Run each load scenario on a stack of its own, draw panels of the dashboards, and write docs/picture.md (5 minutes)
	@cd tests && $(GO) run ./cmd/figures -write

.PHONY: bench
bench: ## Measure what calls cost beside the peers, and write README's tables and benchmarks/RESULTS.md
	@echo "==> benchmarks: 19 scenarios, 7 contenders (about 12 minutes on two cores; compare only what an idle machine wrote)"
	@cd benchmarks && $(GO) run . -write

.PHONY: bench-startup
bench-startup: ## Measure binary size and start-up beside autoexport and otelconf, and write README's table
	@echo "==> start-up: builds 5 programs and starts each 100 times (about 2 minutes)"
	@cd benchmarks/startup && $(GO) run . -write

.PHONY: lint
lint: ## Lint every module with the pinned golangci-lint
	@echo "==> golangci-lint (the first time: builds it, about 5 minutes on two cores)"
	@linter=$$($(GO) -C tools/lint tool -n golangci-lint) || exit 1; \
	$(call each,$(CODE),$$linter run --config $(CURDIR)/.golangci.yml ./...)

.PHONY: fmt
fmt: ## Format the Go code of every module
	@$(call each,$(CODE),$(GO) fmt ./...)

.PHONY: generate
generate: ## Regenerate the committed code with the pinned generators
	@$(call each,$(CODE),$(GO) generate ./...)

.PHONY: generate-check
generate-check: ## Fail if regenerating changes a file
	@before=$$($(tree)); $(MAKE) --no-print-directory generate && after=$$($(tree)) && \
	if ! git diff --stat --exit-code $$before $$after; then \
		echo "generate-check: generated files were out of date; commit what changed" >&2; exit 1; \
	fi

.PHONY: grafana-check
grafana-check: ## Check the dashboards against the types that Grafana publishes (needs node and npm)
	@cd tests/grafana && npm ci --silent --no-audit --no-fund && node check.mjs

.PHONY: tidy-check
tidy-check: ## Fail if a go.mod or go.sum is not as go mod tidy would leave it
	@$(call each,$(MODULES),$(GO) mod tidy -diff)

.PHONY: verify
verify: ## Check the downloaded modules, the tools' among them, against go.sum
	@$(call each,$(MODULES),$(GO) mod verify)

.PHONY: clean
clean: ## Remove what make built, after stopping the stack (Jaeger and Prometheus stay in the user's cache folder)
	@if [ -x $(BIN)/stack ]; then $(BIN)/stack down; fi
	rm -rf $(BIN)
