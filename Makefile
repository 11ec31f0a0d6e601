# The same commands for people, the README and .ci/run. `make help` lists them.
# Each works on a fresh clone by itself: it makes .venv and whatever else it needs, once.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH  := $(VENV)/.bench
DEMO   := demo
CLUSTER := $(BIN)/python tests/cluster/cluster.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long check format manifests bench-training bench-store bench-search bench-operator bench-stream clean
.PHONY: cluster cluster-down cluster-demo

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; set PYTHON to a Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable '.[trainer,operator,gcs,s3]' --group dev
	@touch $@

demo: $(STAMP) ## Prepare real data, train a stream of tasks into one graph, show that nothing was forgotten
	$(BIN)/python examples/demo/prepare.py $(DEMO)/data
	$(BIN)/evergraft run examples/demo --graph $(DEMO)/graph --threads 2
	$(BIN)/python examples/demo/summary.py $(DEMO)/graph --out $(DEMO)/results.json --threads 2

test: $(STAMP) ## Run every test
	$(CLUSTER) build
	$(BIN)/python -m pytest -n 3 --dist loadscope tests

test-fast: $(STAMP) ## Run the tests that need no server and no long training (under 60 s)
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow and not server and not cluster" tests

test-long: $(STAMP) ## Run every test, the long ones at full size
	$(CLUSTER) build
	EVERGRAFT_TEST_LONG=1 $(BIN)/python -m pytest -n 3 --dist loadscope tests

check: $(STAMP) ## Format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

cluster: $(STAMP) ## Start a real Kubernetes on this machine and print how to use kubectl with it (root, Go)
	$(CLUSTER) up

cluster-down: $(STAMP) ## End it, and leave nothing behind
	$(CLUSTER) down

cluster-demo: $(STAMP) ## The main job on a cluster of its own: install, two Tasks, one graph on S3, proof and prediction
	$(BIN)/python tests/cluster/demo.py

manifests: $(STAMP) ## Regenerate what is written from code: CRDs, API reference, chart schema, metrics page, alerts, dashboards
	$(BIN)/python -m evergraft.api.crd manifests/crds
	$(BIN)/python -m evergraft.api.reference docs/api.md
	$(BIN)/python -m charts.generate
	$(BIN)/python -m evergraft_operator.observability

bench-training: $(STAMP) ## Time the training loop beside a plain PyTorch loop
	$(BIN)/python tests/bench/training/loop.py
	$(BIN)/python tests/bench/training/side_by_side.py
	$(BIN)/python tests/bench/startup.py

bench-store: $(BENCH) ## Measure commits beside Icechunk, and what one costs as the graph grows
	$(BIN)/python tests/bench/store/throughput.py
	$(BIN)/python tests/bench/store/commit_cost.py

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

bench-search: $(BENCH) ## Measure what orchestrating a search costs, beside Optuna
	$(BIN)/python tests/bench/search/slots.py
	$(BIN)/python tests/bench/search/stream.py

bench-operator: $(STAMP) ## Measure the operator on a real API server: 1,000 Tasks at once, a restart with 10,000 (root, Go)
	$(BIN)/python -m tests.bench.operator.measure

STREAM := $(BIN)/evergraft bench stream
QUICK  := --quick --results $(VENV)/.stream

bench-stream: $(STAMP) ## Learn six tasks of the stream by three methods, then print the recorded full result (Debian, npm)
	$(STREAM) data --quick
	$(STREAM) run $(QUICK) --again --methods graft & graft=$$!; \
	trap 'kill $$graft 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(STREAM) run $(QUICK) --again --methods lora finetune && wait $$graft
	$(STREAM) report $(QUICK) --figures
	@echo "The whole stream, as recorded in docs/data/stream:"
	$(STREAM) report --figures
	$(STREAM) report

clean: ## Remove the virtual environment and the demo
	rm -rf $(VENV) $(DEMO)
