# `make` builds everything from a bare clone; `make test` tests it. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Of pip's settings and an HPC module's packages nothing gets into the environment.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
export PIP_USER := 0
export PIP_REQUIRE_VIRTUALENV := 0
# Snakemake needs a folder for its cache, which a home may not be.
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
ifneq ($(shell mkdir -p "$(CACHE)" 2>/dev/null && test -w "$(CACHE)" && echo usable),usable)
export XDG_CACHE_HOME := $(shell echo $${TMPDIR:-/tmp}/vaelab-cache-$$(id -u))
endif

.DEFAULT_GOAL := all
.PHONY: all test test-fast test-slurm chaos lint docs smoke restore publish yardstick bench setup setup-dev clean

all: setup
	$(SNAKEMAKE) all
	@echo "Done. The results page is results/quick/index.html"

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# An environment that is half made, was moved or has lost its Python is made anew.
ifneq ($(shell $(BIN)/python -c "" 2>/dev/null && cat $(VENV)/.installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.installed
ANEW := --clear
endif

$(VENV)/.installed: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo \
		"vaelab needs Python 3.11, 3.12 or 3.13: for others its packages have no wheels yet." \
		"Set PYTHON=python3.12, for example"; exit 1; }
	@echo "Installing the packages into $(VENV): about 2 GB, some minutes."
	test -x $(BIN)/python -a -z "$(ANEW)" || $(PYTHON) -m venv $(ANEW) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > $@

$(VENV)/.installed-dev: $(VENV)/.installed envs/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-dev.txt
	touch $@

# Weights, arrays and data through DVC: `make restore PRESET=modern`.
restore publish: setup
	$(BIN)/vaelab $@ $(if $(PRESET),--config preset=$(PRESET))

$(VENV)/.installed-bench: $(VENV)/.installed envs/requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements-bench.txt
	touch $@

# Measure the speed of training, beside its bound and its rivals (results/bench).
bench: $(VENV)/.installed-bench
	$(BIN)/vaelab fetch mnist frey
	$(BIN)/vaelab bench

# Run `all` on a Slurm of three nodes and disturb it on the way. Needs root; takes ten minutes.
test-slurm: setup-dev
	VAELAB_TEST_SLURM=1 $(BIN)/python -m pytest tests/cluster

# Disturb a smoke run at random and compare it with one in peace: `make chaos SEED=7`. A few minutes.
chaos: setup-dev
	$(BIN)/python tests/support/chaos.py $(if $(SEED),--seed $(SEED)) $(TARGETS)

# Three processes on two cores: much of what they run waits for something.
test: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The unit tests alone, without the slow ones.
test-fast: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" tests/unit

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakemake --lint

# The documentation site, in site/. A broken link is an error; with --quiet it would not be.
docs: setup-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "Done. The documentation is site/index.html; its search needs a server (mkdocs serve)"

# Every target on a tiny budget, and Snakemake's report of it.
smoke: setup
	$(SNAKEMAKE) all --config preset=smoke
	$(BIN)/snakemake --report report.zip --config preset=smoke

# About 25 minutes on one core. Not part of `all`.
yardstick: setup
	$(SNAKEMAKE) yardstick
	@tail -n 1 results/quick/logs/yardstick.log

clean:
	rm -rf results/smoke results/quick .snakemake site
