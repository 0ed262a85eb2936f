# The main tasks; each installs what it needs into .venv on first use. `make help` lists them.

CORPUS ?= demo
PROTOCOL ?= speaker
ROOT ?=
JOBS ?=
PRESET ?=
PYTHON ?= python3
VENV ?= .venv

SER_PIPELINE_CACHE ?= cache
export SER_PIPELINE_CACHE

BIN := $(VENV)/bin
RUN := $(BIN)/ser-pipeline
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
DOCUMENTED := $(VENV)/.documented
PEERS := $(VENV)/bench/.installed
FEATURES := $(SER_PIPELINE_CACHE)/features/$(CORPUS).json
SETTINGS := $(if $(PRESET),--preset $(PRESET))
WITH_JOBS := $(if $(JOBS),--jobs $(JOBS))

.DEFAULT_GOAL := help
.PHONY: help features train report audit test coverage lint types format docs bench clean
.DELETE_ON_ERROR:

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  settings: CORPUS=$(CORPUS) ROOT=folder PROTOCOL=$(PROTOCOL) PRESET=name JOBS=n"

features: $(INSTALLED) ## extract features into HDF5 shards (CORPUS= ROOT= JOBS=); by default from the demo corpus
	$(strip $(RUN) features $(CORPUS) $(ROOT) $(WITH_JOBS) $(SETTINGS))

train: $(FEATURES) ## train a run on the shards, one fold for each held-out group (PROTOCOL=)
	$(strip $(RUN) train --corpus $(CORPUS) --protocol $(PROTOCOL) $(WITH_JOBS) $(SETTINGS))

report: train ## write tables, figures and a page about the runs; runs the earlier stages if needed
	$(RUN) report --corpus $(CORPUS)

audit: $(INSTALLED) ## find faults in a corpus and its folds (CORPUS= ROOT=)
	$(strip $(RUN) audit $(CORPUS) $(ROOT) --protocol $(PROTOCOL))

test: $(DEVELOPED) ## run every test that needs no GPU and no network
	$(BIN)/python -m pytest -n 3 --dist worksteal

# Tests that limit the size of files fail here, because coverage writes files too; the results of `make test` count.
coverage: $(DEVELOPED) ## measure the lines and branches that the tests reach, in child processes too
	$(BIN)/python -m coverage erase
	-$(BIN)/python -m coverage run -m pytest -n 2 --dist worksteal
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: $(DEVELOPED) ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOPED) ## check the types
	$(BIN)/mypy

format: $(DEVELOPED) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCUMENTED) ## build the documentation's site in build/docs; every warning is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --fresh-env --write-all docs build/docs
	@echo build/docs/index.html

bench: $(PEERS) ## compare speed with other packages as ratios; then measure reading and prediction on the CPU
	$(VENV)/bench/bin/python -m benchmarks.run
	$(VENV)/bench/bin/python -m benchmarks.gather
	$(VENV)/bench/bin/python -m benchmarks.predict --device cpu --files 24 --folds 2

clean: ## remove the environment and build products; keeps cache, runs and reports
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .coverage* .mypy_cache .ruff_cache .hypothesis

$(FEATURES): | $(INSTALLED)
	$(strip $(RUN) features $(CORPUS) $(ROOT) $(WITH_JOBS) $(SETTINGS))

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV): with PyTorch's GPU libraries a large download, and 6 GB of disk"
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@touch $@

$(DEVELOPED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

$(DOCUMENTED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

# A second environment that sees the packages of the first: some peers need other versions of them.
$(PEERS): benchmarks/requirements.txt | $(DEVELOPED)
	$(BIN)/python -m venv $(VENV)/bench
	site=$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") && $(VENV)/bench/bin/python -c \
		"import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'shared.pth').write_text(sys.argv[1])" "$$site"
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	@touch $@
