# `make reproduce` runs the default study, `make test` every check. Both make .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
SHELL := bash
export PATH := $(BIN):$(PATH)

.PHONY: reproduce test test-slurm test-gpu smoke check peers environment lock clean

# Snakemake is quiet about errors too where it is quiet about jobs, so jobs are left out here.
ERRORS_ONLY := { trap '' INT; sed -uE \
	-e '/^(Using |Assuming |Building |Singularity |Select jobs|Execute |Job [0-9]+:|Complete log|Elapsed time)/d' \
	-e '/^(local)?rule .*:$$/,/^$$/d' -e '/^\[.*\]$$/d' -e '/^Nothing to be done/,/^$$/d' -e '/^$$/d' >&2; }
LOCKED := if nothing else works in this folder: $(VENV)/bin/snakemake --unlock, then make reproduce

reproduce: environment
	@knowcap progress --study config/config.yaml & watcher=$$!; \
	trap 'kill $$watcher 2>/dev/null' EXIT; \
	set -o pipefail; \
	snakemake --profile config/profiles/local --quiet host progress reason -- all 2>&1 | $(ERRORS_ONLY) \
	|| { [ -z "$$(ls .snakemake/locks 2>/dev/null)" ] || echo "$(LOCKED)" >&2; exit 1; }; \
	echo "the report: $(CURDIR)/results/default/report.html"

test: check
	@python -m pytest -n auto

# A part of `make test` by itself; needs root on Debian or Ubuntu, and is skipped elsewhere.
test-slurm: environment
	@python -m pytest -m slurm

# A part of `make test` by itself; is skipped where there is no GPU.
test-gpu: environment
	@python -m pytest -m gpu

smoke: environment
	@snakemake --profile config/profiles/local --configfile config/smoke.yaml

check: environment
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@snakefmt --check Snakefile rules
	@snakemake --lint
	@typos

# What `snakemake benchmark` compares with. litgpt asks for an older huggingface_hub than transformers
# does and works with either, so it and what it imports come without their dependencies.
peers: environment
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,benchmark]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps litgpt==0.5.13 lightning==2.6.6 lightning-utilities==0.15.3 torchmetrics==1.9.0 jsonargparse==4.53.0

environment: $(VENV)/.installed

# What moves numbers is locked in constraints.txt, written by `make lock` from pyproject.toml.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "knowcap needs Python 3.11 to 3.13; say which with PYTHON=..., not $$($(PYTHON) --version)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@echo "installing the locked environment in $(VENV) (a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

lock:
	uv pip compile --universal --python-version 3.11 --extra dev --extra benchmark --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV)
