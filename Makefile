# One command each: make the environment, then run, test, check, measure or train. `make` alone lists them.

VENV := .venv
PY := $(VENV)/bin/python
# Tried in this order; another one: make demo PYTHON=/path/to/python3
PYTHON = python3.11 python3
# What else pip should know when it fetches torch, e.g. TORCH_OPTIONS="--index-url <address of an index>".
TORCH_OPTIONS =
# Passed on to the command of `make demo`, `make test`, `make bench` and `make train`.
ARGS =

TORCH := $(shell grep '^torch==' requirements/lock.txt)

export PIP_QUIET = 2
export PIP_PROGRESS_BAR = off
export PIP_NO_INPUT = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore
export PIP_RETRIES ?= 5
export PIP_DEFAULT_TIMEOUT ?= 60

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-lowest check format bench examples docs train clean

help:
	@echo "make demo         install into .venv and run the demonstration"
	@echo "make test         the whole test suite"
	@echo "make check        lint, format, types, import walls"
	@echo "make format       let ruff rewrite what it can"
	@echo "make examples     run every numbered example"
	@echo "make bench        run the benchmarks of minutes; QUICK=1 takes few episodes"
	@echo "make docs         build the documentation site into build/site, strictly"
	@echo "make train        train a world model; options go into ARGS=\"...\""
	@echo "make test-lowest  the test suite on the oldest versions setup.cfg admits"
	@echo "make clean        remove the environment, caches and build products"

# A command that is on the path may still refuse to run (a version manager's stand-in does), so each candidate is tried.
$(VENV)/.python:
	@for python in $(PYTHON); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "Making $(VENV) with $$python ($$($$python --version 2>&1))."; \
	        $$python -m venv --clear $(VENV) && touch $@; exit $$?; \
	    fi; \
	done; \
	echo "No usable Python among: $(PYTHON)." >&2; \
	echo "VAPSim needs Python 3.11 or newer with its venv module (Debian and Ubuntu: the package python3-venv)." >&2; \
	echo "Point to one with: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3" >&2; \
	exit 1

# torch goes first and alone, pinned. Left to a plain dependency resolution, pip on Linux takes the newest torch, which is
# a CUDA build of several gigabytes even where no GPU is present. With the exact version already in place the rest of the
# resolution has no reason to look for another. Where pip still chooses a CUDA build and none is wanted, take the version
# from PyTorch's own CPU wheel index: give its address in TORCH_OPTIONS.
$(VENV)/.core: $(VENV)/.python setup.cfg pyproject.toml requirements/lock.txt
	@echo "Installing $(TORCH), then the locked dependencies and the package itself (about a minute)."
	@$(PY) -m pip install $(TORCH_OPTIONS) "$(TORCH)"
	@$(PY) -m pip install -r requirements/lock.txt
	@$(PY) -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core requirements/dev.txt
	@$(PY) -m pip install -r requirements/dev.txt
	@PIP_QUIET=0 $(PY) -m pip check
	@touch $@

demo: $(VENV)/.core
	$(PY) -m vap_sim demo $(ARGS)

test: $(VENV)/.dev
	$(PY) -m pytest -q $(ARGS)

check: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	MYPYPATH=benchmarks $(PY) -m mypy benchmarks
	$(PY) -m pytest -q tests/test_house.py

format: $(VENV)/.dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

examples: $(VENV)/.core
	@set -e; for script in examples/[0-9][0-9]_*.py; do echo "== $$script"; $(PY) $$script; done

# A link that leads nowhere, a page that no menu lists, a public name that the reference lacks: each ends the build.
docs: $(VENV)/.dev
	$(PY) -m mkdocs build --quiet --strict
	@echo "Open build/site/index.html"

# In full, dreams are judged on 100 held-out episodes, which the first run records (about five minutes).
QUICK =
QUICK_following = --limit 10
QUICK_fidelity = --limit 10
QUICK_stability = --steps 300
# Those that train or play for long, and reports on them, run by their own names alone, as `make bench-judge`.
LONG := adapt calibration experts few_steps fifth_body hands joint_training joint_training_dreams joint_training_report judge planning prompt_forms prompt_forms_report reference_video reference_video_report teleop train_in_dream trust views
# A file without a command is a part of others.
BENCHMARKS := $(filter-out $(LONG),$(basename $(notdir $(shell grep -l __main__ benchmarks/*.py))))

bench: $(addprefix bench-,$(BENCHMARKS))

bench-%: $(VENV)/.dev
	@echo "== benchmarks/$*.py"
	@$(PY) benchmarks/$*.py $(if $(QUICK),$(QUICK_$*)) $(ARGS)

train: $(VENV)/.core
	$(PY) -m vap_sim train $(ARGS)

# The lower bounds of setup.cfg, tried for true: a second environment with the oldest versions it admits.
LOWEST := build/lowest
test-lowest: $(VENV)/.python
	@$(PY) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install $(TORCH_OPTIONS) "$(TORCH)"
	@$(LOWEST)/bin/python -m pip install -r requirements/lowest.txt
	@$(LOWEST)/bin/python -m pip install --no-deps --no-build-isolation --editable .
	$(LOWEST)/bin/python -m pytest -q $(ARGS)

# Recordings and training runs (out/, runs/) are the user's and stay.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
