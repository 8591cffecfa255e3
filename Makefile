# Every target sets up what it needs: `make demo` and `make test` work in a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
ATF_BUILD ?= release
export ATF_BUILD
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -q
PYTEST := $(PY) -m pytest -q
DEMO := build/demo
# Interpreters for test-all, one a version; "3.12=/usr/bin/python3.12 ..." overrides the search.
PYTHONS ?= $(shell .ci/pythons)

INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built-$(ATF_BUILD)
NATIVE := $(wildcard _core/*.pyx _core/*.pxd _core/*.h _core/*.c _core/vm/* _core/agent/*.[chS] _core/agent/*/*.[chS])

.PHONY: help venv build demo test test-all stress perf lint types coverage tsan asan ubsan conformance wheel-test clean distclean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  PYTHON=python3.12 VENV=.venvs/3.12 make test    another interpreter"
	@echo "  ATF_BUILD=debug make test                       another kind of build (release, debug, coverage, tsan, asan, ubsan)"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "atf needs Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0])'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv could be made: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	$(PIP) install 'setuptools>=77' 'cython>=3.1,<4'
	$(PIP) install --no-build-isolation -e '.[test]'
	@touch $@

# Another kind of build replaces the modules in place, so its stamp replaces the others.
$(BUILT): $(INSTALLED) setup.py $(NATIVE)
	$(PY) setup.py -q build_ext --inplace
	@rm -f $(VENV)/.built-*; touch $@

venv: $(INSTALLED) ## make .venv and install what is needed

build: $(BUILT) ## build the compiled modules in place

demo: build ## record a real program from outside and show what happened in it
	@rm -rf $(DEMO)
	$(PY) -m atf record --out $(DEMO) -- $(PY) docs/examples/orders.py
	$(PY) -m atf info $(DEMO)
	$(PY) -m atf top $(DEMO) --limit 8
	$(PY) -m atf tree $(DEMO) --function handle --max-depth 3
	$(PY) -m atf spans $(DEMO) --status exception --function check --limit 3

test: build ## the tests (about nine minutes on two cores)
	$(PYTEST) -m "not stress"

test-all: ## the tests on every CPython from 3.10 on that is found, each in .venvs/X.Y
	@test -n "$(PYTHONS)" || { echo "no CPython from 3.10 on was found"; exit 1; }
	@failed=; for each in $(PYTHONS); do \
	    echo "== CPython $${each%%=*} ($${each#*=})"; \
	    ATF_HOUSE=skip $(MAKE) --no-print-directory test PYTHON=$${each#*=} VENV=.venvs/$${each%%=*} || failed="$$failed $${each%%=*}"; \
	done; test -z "$$failed" || { echo "failed on:$$failed"; exit 1; }

stress: build ## the long tests: forbidden outcomes and checksums
	$(PYTEST) -m stress

perf: build ## the benchmarks, each paired with a peer
	$(PIP) install --no-build-isolation -e '.[perf]'
	@for each in perf/[a-z]*.py; do echo "== $$each"; $(PY) $$each; done

lint: $(INSTALLED) ## ruff
	$(PY) -m ruff check .

types: build ## mypy, and the stubs against the compiled modules
	$(PY) -m mypy
	$(PYTEST) tests/unit/test_house_stubs.py

# Sanitizers and coverage build in a copy of the tree: their modules never get mixed with those in place.
# Without address space randomization where that may be switched off: an older ThreadSanitizer refuses some layouts.
FIXED := $(shell setarch -R true 2>/dev/null && echo setarch -R)
define copy
	rm -rf build/tree-$(1); mkdir -p build/tree-$(1)
	tar --exclude=./build --exclude=./.git --exclude='./.venv*' --exclude='*.so' --exclude=./atf-traces -cf - . | tar -C build/tree-$(1) -xf -
	cd build/tree-$(1) && ATF_BUILD=$(1) $(abspath $(PY)) setup.py -q build_ext --inplace
endef

coverage: $(INSTALLED) ## lines that the unit tests reach, compiled modules included, in htmlcov/ (3.11 or 3.12)
	$(PIP) install 'coverage>=7.4'
	$(call copy,coverage)
	cd build/tree-coverage && COVERAGE_CORE=ctrace $(abspath $(PY)) -m coverage run -m pytest -q -m "not stress" \
	    tests/unit tests/fuzz -k "not house and not perf"
	cd build/tree-coverage && $(abspath $(PY)) -m coverage html -q -d ../../htmlcov && $(abspath $(PY)) -m coverage report --skip-covered

tsan: $(INSTALLED) ## the rings under ThreadSanitizer: the plain build is clean, the broken one is caught
	$(call copy,tsan)
	cd build/tree-tsan && LD_PRELOAD=$$(gcc -print-file-name=libtsan.so) TSAN_OPTIONS="halt_on_error=1 report_signal_unsafe=0" \
	    $(FIXED) $(abspath $(PY)) -m pytest -q -p no:cacheprovider -m tsan

asan: $(INSTALLED) ## the at-rest half under AddressSanitizer
	$(call copy,asan)
	cd build/tree-asan && LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	    $(abspath $(PY)) -m pytest -q -p no:cacheprovider -m at_rest

ubsan: $(INSTALLED) ## the at-rest half under UndefinedBehaviorSanitizer
	$(call copy,ubsan)
	cd build/tree-ubsan && LD_PRELOAD=$$(gcc -print-file-name=libubsan.so) UBSAN_OPTIONS=print_stacktrace=1 \
	    $(abspath $(PY)) -m pytest -q -p no:cacheprovider -m at_rest

CONFORMANCE := build/conformance
conformance: build ## the query server before the public judges of its protocols (fetches them: npm, PyPI)
	@mkdir -p $(CONFORMANCE)
	cd $(CONFORMANCE) && npm install --silent --no-audit --no-fund --prefix . node@24 @modelcontextprotocol/conformance@0.2.0-alpha.12
	@test -x $(CONFORMANCE)/venv/bin/python || $(PYTHON) -m venv $(CONFORMANCE)/venv
	$(CONFORMANCE)/venv/bin/python -m pip --disable-pip-version-check -q install 'mcp>=2.3,<3'
	$(PYTEST) tests/integration/test_query_conformance.py

wheel-test: $(INSTALLED) ## sdist, wheel from the sdist, a clean venv, and the tests against the installed package
	PYTHON=$(abspath $(PY)) .ci/wheel-test

clean: ## remove what was built, keep the venvs
	rm -rf build dist *.egg-info htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis _core/*.so
	rm -f .venv/.built-* .venvs/*/.built-*
	find atf query _core tests perf docs -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove the venvs too
	rm -rf .venv .venvs
