# Two commands are all anyone needs: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODEL ?=

.PHONY: help demo test serve check format bench clients sanitize clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(READY)  ## set up, then watch traffic outgrow the machine, with and without a promise (about a minute)
	@$(BIN)/headway demo

test: $(READY)  ## set up, then run all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest

serve: $(READY)  ## serve the bundled model, or MODEL=... on http://127.0.0.1:8000
	@$(BIN)/headway serve $(MODEL)

check: $(READY)  ## lint, format, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)  ## let ruff format and mend what it can
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format .

bench: $(READY)  ## list the benchmarks; run one with: .venv/bin/python -m benchmarks NAME --json -
	@$(BIN)/python -m benchmarks

clients: $(READY)  ## try the openai 2.x client and LiteLLM, in a virtual environment of their own
	@$(BIN)/python tools/check_clients.py

sanitize: $(READY)  ## the tests of the compiled kernels under address, undefined-behaviour and thread sanitizers
	@tools/sanitize.sh

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .venv-* build dist src/headway/engine/_native.*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	cd native/cmake && rm -rf CMakeCache.txt CMakeFiles CMakeInit.txt *.ninja* *.cmake *.a .skbuild-info.json .ninja_*

$(READY): pyproject.toml constraints.txt $(wildcard native/*.* native/cmake/CMakeLists.txt)
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Headway needs Python 3.11 or newer; $(PYTHON) is %d.%d. Say which one: make PYTHON=python3.12" % v[:2])'
	@echo "Setting up $(VENV): a minute or two, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[engine,torch,dev]'
	@touch $@
