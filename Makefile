# Everything here works with Python 3.11 or later and make; the environment in .venv is made on first use.
# `make PYTHON=python3.12 test` takes another Python, `make VENV=folder ...` another environment.

PYTHON ?= python3
VENV ?= .venv
export PIP_DISABLE_PIP_VERSION_CHECK = 1

comma := ,
bin = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu lint types tables bench wheel proofs check-long clean
.DELETE_ON_ERROR:

help:
	@echo "make demo        train on handwritten digits, and show how it went"
	@echo "make test        run the tests that need no GPU and no PyTorch (three to five minutes on two cores)"
	@echo "make test-gpu    run the GPU tests on a simulated GPU (Linux on x86-64, g++)"
	@echo "make lint        check style, format, and which module may import which"
	@echo "make types       check types"
	@echo "make tables      write the tables of formulas in docs and kernels from the docstrings"
	@echo "make bench       measure training steps, and how they scale (benchmarks/README.md has more)"
	@echo "make wheel       build the sdist and the wheel with the C kernels, into dist (Linux)"
	@echo "make proofs      kill, damage and starve training runs, and resume them (Linux; ten minutes)"
	@echo "make check-long  mutation, fuzzing, sanitizers and slow tests (Linux, gcc; an hour)"
	@echo "make clean       remove what these commands made, but not your runs"

demo: $(VENV)/installed-cli-plot
	$(bin)/gradflow train digits

test: $(VENV)/installed-test
	@echo "some 12,000 tests, which take three to five minutes on two cores that have nothing else to do"
	$(bin)/python -m pytest --numprocesses=auto --dist=worksteal --maxprocesses=8 -m "not thorough" $(PYTEST_OPTIONS)

# The simulator is in tests/simgpu; it builds itself, in about a minute, when it is first used.
test-gpu: .venv-gpu/complete
	PYTHON=.venv-gpu/bin/python tests/simgpu/run .venv-gpu/bin/python -m pytest --numprocesses=auto \
	    --dist=worksteal --maxprocesses=8 --require gpu -m "gpu and not peers and not slow" $(PYTEST_OPTIONS)

lint: $(VENV)/installed-dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/lint-imports

types: $(VENV)/installed-dev
	$(bin)/mypy

tables: $(VENV)/installed-dev
	$(bin)/python -m docs.tables

bench: $(VENV)/installed-bench
	$(bin)/python benchmarks/import_time.py
	$(bin)/python -m pytest benchmarks/test_steps.py -k "adam and not adamw and float32"
	$(bin)/python -m benchmarks.scaling --quick --output build/benchmarks

# The build fails without the kernels, and the last line where the library needs more than a manylinux system has.
wheel: $(VENV)/installed-dev
	rm -rf dist
	GRADFLOW_REQUIRE_NATIVE=1 $(bin)/python -m build
	$(bin)/auditwheel show dist/*.whl
	@$(bin)/auditwheel show --json dist/*.whl | grep --quiet '"overall_tag": "manylinux_'

# What each shows, and how to run one alone, is in docs/long-runs.md.
proofs: $(VENV)/installed-test
	$(bin)/python -m pytest --run-slow -rP tests/training/runs/test_recovery.py tests/test_mutated_files.py \
		tests/training/runs/test_crafted_files.py

check-long: .venv-ci/complete
	.ci/check-long

clean:
	rm -rf .venv .venv-ci .venv-cuda13 .venv-gpu build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# An environment with gradflow, editable, and the extras named after "installed-", with hyphens between them.
$(VENV)/installed-%: pyproject.toml .ci/requirements.txt | $(VENV)/bin/python
	@echo "installing gradflow with the extras $(subst -,$(comma) ,$*) into $(VENV)"
	@$(bin)/python -m pip install --quiet --editable '.[$(subst -,$(comma),$*)]' --constraint .ci/requirements.txt
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	    found=$$($(PYTHON) --version 2> /dev/null) || found=missing; \
	    echo "error: gradflow needs Python 3.11 or later, and '$(PYTHON)' is $$found."; \
	    echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# The environment of test-gpu: CuPy without CUDA's libraries, which the simulator takes the place of.
.venv-gpu/complete: pyproject.toml .ci/requirements.txt
	@$(MAKE) --no-print-directory VENV=.venv-gpu .venv-gpu/installed-test
	@.venv-gpu/bin/python -m pip install --quiet --constraint .ci/requirements.txt \
	    cupy-cuda12x ml-dtypes
	@touch $@

# The environment of .ci/run and check-long, all that the tests can use without a GPU; and one with CUDA 13.
.venv-ci/complete: pyproject.toml .ci/requirements.txt
	@$(MAKE) --no-print-directory VENV=.venv-ci .venv-ci/installed-dev
	@.venv-ci/bin/python -m pip install --quiet --requirement .ci/requirements.txt
	@touch $@

.venv-cuda13/complete: pyproject.toml .ci/requirements.txt .ci/requirements-cuda13.txt
	@$(MAKE) --no-print-directory VENV=.venv-cuda13 .venv-cuda13/installed-test
	@.venv-cuda13/bin/python -m pip install --quiet --constraint .ci/requirements.txt \
	    --requirement .ci/requirements-cuda13.txt ml-dtypes
	@touch $@
