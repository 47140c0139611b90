# `make` prints the targets. All of them use .venv, which the first one makes.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
SHELL := bash
export PATH := $(BIN):$(PATH)
# On Python 3.11 megatron-core is installed against its metadata: see [tool.uv] in pyproject.toml.
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --ignore-requires-python
# Settings of pip and Python that would put packages elsewhere than into .venv, or take them from there.
export PIP_USER := 0
export PYTHONNOUSERSITE := 1
unexport PIP_TARGET PIP_PREFIX PYTHONHOME
ifdef PYTHONPATH
$(warning PYTHONPATH is set: modules in $(PYTHONPATH) are used before those of $(VENV))
endif
# Snakemake and matplotlib need a cache that they can write.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
ifneq ($(shell mkdir -p "$(CACHE)" 2>/dev/null && test -w "$(CACHE)" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.cache
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
$(warning $(CACHE) cannot be written: $(XDG_CACHE_HOME) replaces it)
endif

.DEFAULT_GOAL := help
.PHONY: help reproduce smoke test test-fast test-slurm test-gpu gpu campaign check docs peers environment lock clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: environment ## run the default study and write results/default/report.html
	@snakemake --profile config/profiles/local --logger rich
	@echo "the report: $(CURDIR)/results/default/report.html"

smoke: environment ## run a small study through the whole workflow, in a minute
	@snakemake --profile config/profiles/local --logger rich --configfile config/smoke.yaml

test: check ## run all checks and tests
	@python -m pytest -n auto

# Folders whose tests train nothing. The others are left out, as importing them takes long.
FAST := $(addprefix tests/,artifacts capacity commands config data model planning test_cli.py test_pages.py test_scheduling.py)

test-fast: environment ## run the tests that need no training or workflow, in two minutes
	@python -m pytest -n auto -m "not slow" $(FAST)

test-slurm: environment ## run the tests on Slurm; needs root on Debian or Ubuntu
	@python -m pytest -m slurm

campaign: environment ## kill, damage, fuzz and fill disks thousands of times (docs/reliability.md), in hours
	@KNOWCAP_CAMPAIGN=full python -m pytest -n auto -rP tests/campaign tests/config/test_fuzzed_studies.py

test-gpu: environment ## run the tests on a GPU
	@python -m pytest -m gpu

gpu: environment ## test and measure a machine with a GPU in ten minutes -> results/reference/gpu
	@python -m knowcap_benchmarks gpu

check: environment ## check format, types, imports and spelling
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@find src -name '*.[ch]' | xargs clang-format --dry-run -Werror
	@snakefmt --check Snakefile workflow rules
	@snakemake --lint
	@typos

# litgpt requires an older huggingface_hub than transformers does and works with either, so it and
# its dependencies are installed without their own dependencies.
peers: environment ## install the libraries that `snakemake benchmark` compares with
	@$(PIP) --constraint constraints.txt --editable '.[dev,benchmark]'
	@$(PIP) --no-deps litgpt==0.5.13 lightning==2.6.6 lightning-utilities==0.15.3 torchmetrics==1.9.0 jsonargparse==4.53.0

docs: environment ## build the pages of docs/ as a site in docs/_build
	@python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

environment: $(VENV)/.installed ## make .venv with the locked environment

# Another PYTHON than that of .venv makes it again.
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
ifneq ($(shell $(PYTHON) --version 2>&1),$(shell $(VENV)/bin/python --version 2>&1))
$(VENV)/.installed: always
endif
endif
always:

# constraints.txt has the version of everything that can affect results; `make lock` writes it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "knowcap needs Python 3.11 to 3.13; choose one with PYTHON=..., not $$($(PYTHON) --version)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@echo "installing the locked environment in $(VENV) (a minute or two)"
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 12) and print("megatron-core requires Python 3.12, but is tested on 3.11 and installed")'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

lock: ## write constraints.txt from pyproject.toml, with uv
	uv pip compile --universal --python-version 3.11 --extra dev --extra benchmark --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

clean: ## remove .venv
	rm -rf $(VENV)
