# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TESTERS ?= 2

.PHONY: demo test test-slurm lint types check bases peers clean

demo: $(READY)          ## set up, then run the main job on real images
	$(BIN)/snakemake --profile profiles/local
	@$(BIN)/python -m pipeline summary results/report/campaign.json

test: $(READY)          ## set up, then all tests that need no cluster
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore=tests/slurm --numprocesses=$(TESTERS) --dist=loadfile

test-slurm: $(READY)    ## tests on a real SLURM, installed and started here (needs root and Debian)
	$(BIN)/python -m pytest tests/slurm

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow

types: $(READY)
	$(BIN)/mypy

check: lint types       ## what a commit must pass

bases: $(READY)         ## make the base models anew from simulation, and put them where they are shipped
	$(BIN)/snakemake --profile profiles/local bases
	@for made in results/pretrain/*.base; do \
		shipped=pipeline/base_models/$$(basename $$made .base); \
		rm -rf $$shipped && mkdir -p pipeline/base_models && cp -r $$made $$shipped && echo $$shipped; \
	done

peers:                  ## other people's networks, tools and viewer, for benchmarks and a test, in environments of their own
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --disable-pip-version-check --requirement benchmarks/peers/requirements.txt
	.venv-peers/bin/python -m pip install --disable-pip-version-check --no-deps --upgrade --target .venv-peers/tiled --requirement benchmarks/peers/requirements-tiled.txt
	$(PYTHON) -m venv .venv-peers/napari
	.venv-peers/napari/bin/python -m pip install --disable-pip-version-check --requirement benchmarks/peers/requirements-napari.txt
	.venv-peers/bin/python -m pip install --disable-pip-version-check --upgrade --target .venv-peers/ngff --requirement benchmarks/peers/requirements-ngff.txt
	$(PYTHON) -m venv .venv-peers/lodestar
	.venv-peers/lodestar/bin/python -m pip install --disable-pip-version-check --requirement benchmarks/peers/requirements-lodestar.txt
	$(PYTHON) -m venv .venv-peers/crate
	.venv-peers/crate/bin/python -m pip install --disable-pip-version-check --requirement benchmarks/peers/requirements-crate.txt

clean:                  ## forget results and logs, keep the environment
	rm -rf results logs .snakemake

$(READY): requirements.txt requirements-escnn.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Equiscope needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --requirement requirements-escnn.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)
