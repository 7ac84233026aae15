# `make` builds everything from a bare clone; `make test` tests it. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := all
.PHONY: all test test-fast test-slurm lint docs restore publish yardstick bench setup setup-dev clean

all: setup
	$(SNAKEMAKE) all
	@echo "Done. The results page is results/quick/index.html"

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/.installed: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "vaelab needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed envs/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-dev.txt
	touch $@

# Weights, arrays and data through DVC: `make restore PRESET=modern`.
restore publish: setup
	$(BIN)/vaelab $@ $(if $(PRESET),--config preset=$(PRESET))

$(VENV)/.installed-bench: $(VENV)/.installed envs/requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements-bench.txt
	touch $@

# Measure the speed of training, beside its bound and its peers (results/bench).
bench: $(VENV)/.installed-bench
	$(BIN)/vaelab fetch mnist frey
	$(BIN)/vaelab bench

# Run `all` on a Slurm of three nodes and disturb it on the way. Needs root; takes ten minutes.
test-slurm: setup-dev
	VAELAB_TEST_SLURM=1 $(BIN)/python -m pytest tests/cluster

# Two processes: one runs whole workflows, the other runs everything else.
test: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The unit tests alone, without the slow ones.
test-fast: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" tests/unit

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakemake --lint

# The documentation site, in site/. A broken link is an error; with --quiet it would not be.
docs: setup-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "Done. The documentation is site/index.html; its search needs a server (mkdocs serve)"

# About 25 minutes on one core. Not part of `all`.
yardstick: setup
	$(SNAKEMAKE) yardstick
	@tail -n 1 results/quick/logs/yardstick.log

clean:
	rm -rf results/smoke results/quick .snakemake site
