# All that a clean clone needs is Linux and Python 3.11 or newer.
#
# torch is installed first and pinned for everything after it, so that no package replaces the build you have.
# On a machine without a GPU the CPU build is 10 times smaller; pip takes it when told where it is:
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c "import sys; sys.version_info >= (3, 11) and print('$(p)')" 2>/dev/null)))
TORCH  ?= torch==2.13.0
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint laws bench docs install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/installed ## install, then draw and measure pictures of the bundled model; ends with the path of the report
	@rm -rf runs/demo
	@$(BIN)/inkwash demo --out runs/demo

test: lint ## lint, then the tests that finish in minutes
	$(PYTEST) -m "not slow"

test-all: lint $(VENV)/installed-docs ## lint, then every test
	$(PYTEST)

lint: $(VENV)/installed-test ## ruff, mypy and the floors of the architecture
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

laws: $(VENV)/installed-test ## measure every declared law again: docs/laws.md and docs/laws.json
	@# azula asks for torchvision, which the parts compared here do not use.
	$(PIP) install --no-deps azula==0.11.1
	OMP_NUM_THREADS=1 $(BIN)/python scripts/laws.py -n 2

bench: $(VENV)/installed-test ## speed and quality beside other libraries; three times for a table with its spread
	@# denoising-diffusion-pytorch asks for torchvision, which its U-Net does not use.
	$(PIP) install --no-deps denoising-diffusion-pytorch==2.3.4
	@for script in $(sort $(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done
	@$(BIN)/python scripts/benchmarks.py

docs: $(VENV)/installed-docs ## the documentation, in English and Chinese: build/docs/index.html
	OMP_NUM_THREADS=1 $(BIN)/python scripts/docs

install: $(VENV)/installed ## the environment of make demo, in .venv

clean: ## remove the environment, caches and built packages; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/constraints.txt:
	@test -n "$(PYTHON)" || { echo "Inkwash needs Python 3.11 or newer; tell make where it is: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) install "$(TORCH)" || $(PIP) install torch
	@$(BIN)/python -c "from importlib.metadata import version; print('torch==' + version('torch'))" > $@

$(VENV)/installed: $(VENV)/constraints.txt pyproject.toml
	$(PIP) install --constraint $< --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/constraints.txt pyproject.toml
	$(PIP) install --constraint $< --editable ".[test,lint]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: $(VENV)/constraints.txt pyproject.toml
	$(PIP) install --constraint $< --editable ".[docs]"
	@touch $@ $(VENV)/installed
