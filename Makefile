# Everything installs into this checkout (.venv, .headrace) and can be run again.
PYTHON ?= python3
BIN := .venv/bin
export HYPOTHESIS_STORAGE_DIRECTORY ?= .hypothesis

.PHONY: help install demo test lint faults bench docs requirements package clean

help: ## Show what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.installed ## Install into .venv

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Headrace needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into .venv (once; about a minute on a fresh machine) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  echo "'$(PYTHON) -m venv' did not work. On Debian and Ubuntu: apt install python3-venv"; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'
	@$(BIN)/uv pip install --python $(BIN)/python -e '.[local,azure,dev,bench]'
	@touch $@

demo: .venv/.installed ## Push the example, watch it go live, see a worse model be rejected
	@$(BIN)/headrace demo

test: .venv/.installed ## Run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not full' --cov --cov-report=term:skip-covered --durations 20 --durations-min 8

lint: .venv/.installed ## Run the linters: format, rules, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config .importlinter

faults: .venv/.installed ## Run the fault tests at their full size (long)
	@$(BIN)/python -m pytest tests/faults -m 'full' -n 2 --timeout 3600

bench: .venv/.installed ## Measure, and print the table of docs/benchmarks.md
	@$(BIN)/python benchmarks/run.py

docs: .venv/.installed ## Write the generated pages (state diagram, references)
	@$(BIN)/python docs/generate.py

requirements: .venv/.installed ## Pin what the function app needs on Azure
	@{ sed -n '/^#/p' infra/requirements.hashes.txt; $(BIN)/uv pip compile pyproject.toml --extra azure --python-version 3.13 \
	  --python-platform x86_64-unknown-linux-gnu --no-emit-index-url --no-header --no-annotate --generate-hashes -q; } > requirements.new
	@{ sed -n '/^#/p' requirements.txt; sed -n 's/^\([a-z0-9].*==[^ ]*\).*/\1/p' requirements.new; } > requirements.pins
	@mv requirements.new infra/requirements.hashes.txt && mv requirements.pins requirements.txt && wc -l requirements.txt

package: .venv/.installed ## Zip what is deployed to Azure, and tell its size
	@PATH="$(BIN):$$PATH" $(BIN)/python infra/package.py build --installed

clean: ## Remove what was installed and what the demo left
	rm -rf .venv .headrace .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
