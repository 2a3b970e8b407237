BIN := .venv/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv with tulbur and everything the tests need
	@scripts/setup test

.PHONY: demo
demo: ## see one payment survive the loss of its cache entry, on this machine alone
	@scripts/setup demo
	@$(BIN)/tulbur demo

.PHONY: test
test: check ## run all checks and all tests (what CI runs)
	@$(BIN)/python -m testbed prepare
	@TULBUR_CHROMIUM=$$(scripts/ensure-chromium) || exit 1; export TULBUR_CHROMIUM; \
		$(BIN)/python -m pytest -rs --numprocesses auto --maxprocesses 2 --dist loadgroup

.PHONY: test-clusters
test-clusters: setup ## stores and cache on clusters whose servers are killed
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m pytest -rs -m clusters tests/clusters

.PHONY: test-releases
test-releases: setup ## the release before, with all its contract tests, on the schema of this one
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m pytest -rs -m '' tests/compat

.PHONY: ablation
ablation: setup ## remove each safeguard, one at a time: its tests must fail
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m proving.ablation $(if $(PAGE),--page $(PAGE))

.PHONY: test-import
test-import: setup ## move 10,000 of the old shop's sessions in, from each kind of database
	@TULBUR_OLD_SESSIONS=10000 $(BIN)/python -m pytest -rs tests/importer/test_moving_in.py

SEEDS ?= 100000
FROM ?= 0

.PHONY: simulate
simulate: setup ## the use cases on SEEDS=100000 shuffled, faulty schedules FROM=0, on all cores (docs/proving.md)
	@$(BIN)/python -m proving --seeds $(SEEDS) --start $(FROM) $(if $(PAGE),--page $(PAGE))

.PHONY: crash
crash: setup ## processes killed at each line and edge, answers lost: all of it, or DATABASE=… HANDLER=… BUDGET=seconds RESUME=file
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m proving.crash $(if $(DATABASE),--database $(DATABASE)) $(if $(HANDLER),--handler "$(HANDLER)") \
		$(if $(LINES),--lines $(LINES)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(SHARD),--shard $(SHARD)) \
		$(if $(RESUME),--resume $(RESUME)) $(if $(PAGE),--page $(PAGE))

.PHONY: figures
figures: setup ## the figures to reach, as wholes: all, or FIGURE=duplicates COUNT=… BUDGET=seconds (docs/proving.md)
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m proving.figures $(if $(FIGURE),--figure $(FIGURE)) $(if $(COUNT),--count $(COUNT)) \
		$(if $(BUDGET),--budget $(BUDGET)) $(if $(SEED),--seed $(SEED)) $(if $(PAGE),--page $(PAGE))

SECONDS ?= 120

.PHONY: chaos
chaos: setup ## servers and processes killed in turn under load: all databases, or DATABASE=…, CLUSTERS=1; SECONDS=120 each
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m proving.chaos --seconds $(SECONDS) --seed $(or $(SEED),1) $(if $(DATABASE),--database $(DATABASE)) \
		$(if $(CLUSTERS),--clusters) $(if $(URL),--url $(URL)) $(if $(PAGE),--page $(PAGE))

.PHONY: servers
servers: setup ## PostgreSQL, MariaDB, MongoDB and Valkey, staying up until Ctrl-C
	@$(BIN)/python -m testbed

.PHONY: check
check: setup ## lint, format, types and import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.PHONY: bench
bench: SECONDS = 4
bench: setup ## the benchmark table: all, or DATABASE=… ROWS=paid,open SECONDS=4 a run (docs/benchmark.md)
	@$(BIN)/python -m testbed prepare
	@$(BIN)/python -m bench --seconds $(SECONDS) $(if $(DATABASE),--database $(DATABASE)) \
		$(if $(ROWS),--rows $(ROWS)) $(if $(DATABASE)$(ROWS),,--page bench/RESULTS.md)

.PHONY: lock
lock: ## pin the requirements anew (UPGRADE=1: the newest of everything)
	@UPGRADE='$(UPGRADE)' scripts/lock

.PHONY: clean
clean: ## remove everything the other targets made
	@rm -rf .venv .testbed .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
