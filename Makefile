# What a newcomer needs. `make` alone says what there is.
SHELL := /bin/sh
PY := .venv/bin/python
export PYTHONPATH := operator:runtime:.
# What needs no cluster, by two processes: a file's tests stay in one, and the files that take longest come first.
# What has a cluster has the machine to itself.
APART := -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder tests/contract tests/property tests/unit

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format unit integration e2e bench bench-runtime generate lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv (linked to a cache outside the checkout)
	@sh dev/venv.sh

demo: setup ## from nothing to a served, measured and replaced model (KEEP=1 leaves the cluster running)
	@$(PY) -m dev.demo

test: lint ## lint, types, architecture, then every test: unit, property, contract, integration, e2e
	@$(PY) $(APART)
	@$(PY) -m pytest tests/integration tests/e2e

lint: setup ## ruff, mypy, import-linter, drift of generated files
	@echo "==> ruff" && $(PY) -m ruff check --quiet . && $(PY) -m ruff format --quiet --check .
	@echo "==> mypy" && $(PY) -m mypy --no-error-summary
	@mkdir -p build; echo "==> import-linter"; $(PY) -c "from importlinter.cli import lint_imports_command as c; c()" >build/imports.log 2>&1 || { cat build/imports.log; exit 1; }
	@echo "==> generated files" && $(PY) -m pilothouse.api.crd --check && $(PY) -m dev.protocol --check && $(PY) -m pilothouse_runtime.serve.openapi --check

format: setup ## format the code and mend what ruff can mend
	@$(PY) -m ruff format --quiet . && $(PY) -m ruff check --fix .

unit: setup ## the tests that need no cluster
	@$(PY) $(APART)

integration: setup ## the tests against a real API server
	@$(PY) -m pytest tests/integration

e2e: setup ## the tests on a real node
	@$(PY) -m pytest tests/e2e

bench: bench-runtime ## all benchmarks there are; best on a machine that does nothing else

bench-runtime: setup ## our runtime against its peers, into docs/benchmarks.md (QUICK=1: some minutes, the page stays)
	@$(PY) -m dev.bench runtime $(if $(QUICK),--quick)

generate: setup ## write the CRDs from the models, and gRPC's messages from the protocol
	@$(PY) -m pilothouse.api.crd --write && $(PY) -m dev.protocol --write && $(PY) -m pilothouse_runtime.serve.openapi --write

lock: setup ## pin the newest versions that pyproject.toml allows
	@sh dev/lock.sh

clean: setup ## stop the embedded cluster and remove what was built in the checkout
	@$(PY) -m dev.cluster down
	@rm -rf build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache .venv
