# `make reproduce` runs the default study, `make test` every check. Both make .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

.PHONY: reproduce test test-slurm smoke check environment clean

reproduce: environment
	@knowcap progress --study config/config.yaml & watcher=$$!; \
	trap 'kill $$watcher 2>/dev/null' EXIT; \
	snakemake --profile config/profiles/local --quiet all && \
	echo "the report: $(CURDIR)/results/default/report.html"

test: check
	@python -m pytest -n auto --dist loadgroup

# A part of `make test` by itself; needs root on Debian or Ubuntu, and is skipped elsewhere.
test-slurm: environment
	@python -m pytest -m slurm

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
	uv pip compile --universal --python-version 3.11 --extra dev --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV)
