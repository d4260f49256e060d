# Everything is installed into .venv and build inside the checkout, nothing outside it (but for Debian's Chromium, by
# `make browser`).
# A stamp in .venv says what is installed; it is older than pyproject.toml or the constraints when there is more to do.

PYTHON ?= python3
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet -c .ci/constraints.txt
REQUIRED := pyproject.toml .ci/constraints.txt .ci/requirements.py

# cpu or gpu: which build of ONNX Runtime. The GPU build exists for x86-64 Linux. A device file is looked for first
# because nvidia-smi can take a second, and a second start should not.
ifndef RUNTIME
RUNTIME := $(shell \
	if [ "$$(uname -sm)" = "Linux x86_64" ] && \
	   { ls /dev/nvidia[0-9]* || nvidia-smi -L | grep GPU; } >/dev/null 2>&1; \
	then echo gpu; else echo cpu; fi)
endif
OTHER_cpu := onnxruntime-gpu
OTHER_gpu := onnxruntime
ifndef OTHER_$(RUNTIME)
$(error RUNTIME is '$(RUNTIME)', it must be cpu or gpu)
endif

SERVE := $(VENV)/.installed-$(RUNTIME)
TEST := $(VENV)/.installed-test
BROWSER := $(VENV)/.installed-browser
CLIENTS := build/clients

.DELETE_ON_ERROR:
.PHONY: help install serve training check lint types test slow proofs quality browser clients bench bench-overload soak image clean

help:  ## this list
	@echo "Targets (ARGS= is passed on, RUNTIME=cpu or gpu overrules what is seen; here it is $(RUNTIME)):"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b; do printf '%-16s %s\n' "$$a" "$$b"; done

serve: $(SERVE)  ## install what serving needs and serve models/; settings by LECTERN_* or ARGS="--port 9000"
	@exec $(PY) -m app $(ARGS)

install: $(SERVE)  ## install what serving needs

training: $(TEST)  ## install what training and the tests need too (with torch)

test: lint types  ## ruff, mypy and the default tests: no data set, no network
	@$(PY) -m pytest -q -n 2 --dist loadfile $(ARGS)

check: test  ## the same as test

lint: $(TEST)
	@$(PY) -m ruff check --quiet .

types: $(TEST)
	@$(PY) -m mypy --no-error-summary

# Pytest ends with 5 where ARGS leaves it no test. What says how long something may take runs alone.
slow: $(TEST)  ## the tests that are correct but slow: some ten minutes on two cores
	@failed=0; \
	$(PY) -m pytest -q -m "slow and not timed" -n 2 --dist loadfile $(ARGS) || [ $$? = 5 ] || failed=1; \
	$(PY) -m pytest -q -m "slow and timed" $(ARGS) || [ $$? = 5 ] || failed=1; \
	exit $$failed

proofs: $(TEST)  ## the speeds that are promised, on a quiet machine
	@$(PY) -m pytest -q -m proof -s $(ARGS)

quality: $(TEST)  ## the published figures, on the real data (LECTERN_DATA)
	@$(PY) -m pytest -m quality $(ARGS)

browser: $(BROWSER)  ## the pages in headless Chromium with every outside address refused
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium from the system's packages"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else echo "make browser needs chromium: install the system's package (as root: apt-get install chromium)" >&2; exit 1; fi
	@$(PY) -m pytest -m browser tests/browser $(ARGS)

clients: $(TEST) $(CLIENTS)/.installed  ## clients that five makers write from the OpenAPI document ask every task
	@$(PY) -m pytest -m slow tests/clients $(ARGS)

bench: $(TEST)  ## requests/s, latency and overhead by wrk, beside bare uvicorn and raw ONNX Runtime (ARGS="-- --workers 2")
	@$(PY) -m tests.bench $(ARGS)

bench-overload: $(TEST)  ## five times the capacity for a minute, whatever comes back
	@$(PY) -m tests.bench --overload 60 $(ARGS)

soak: $(TEST)  ## every form of request to every model for half an hour, memory watched
	@$(PY) -m tests.bench --soak 30 $(ARGS)

image:  ## build the container image, start it, ask it for a prediction, stop it, print its size
	@$(PYTHON) tests/image/prove.py --runtime $(RUNTIME) $(ARGS)

clean:  ## remove .venv and the caches; models and training runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build
	find app training tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "Python 3.11 or newer is needed and '$(PYTHON)' is not there: install it, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) --version 2>&1): say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing here: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The two builds of ONNX Runtime hold the same module: the other one goes first, else it would take files of this one along.
$(SERVE): $(VENV)/.made $(REQUIRED)
	@echo "Installing the server with ONNX Runtime for the $(RUNTIME) into $(VENV)"
	@rm -f $(VENV)/.installed-cpu $(VENV)/.installed-gpu
	@$(PIP) uninstall --quiet --yes $(OTHER_$(RUNTIME)) 2>/dev/null
	@$(PY) .ci/requirements.py $(RUNTIME) > $(VENV)/requirements-$(RUNTIME).txt
	@$(INSTALL) -r $(VENV)/requirements-$(RUNTIME).txt
	@touch $@

# On Linux, PyPI's torch is the CUDA build and brings 5 GB. Where pip's own settings (find-links, extra-index-url or
# index-url, in PIP_* or pip.conf) show a wheel of the CPU build, it is taken: 2.13.0+cpu satisfies the constraint
# 2.13.0 and sorts above it, and .venv stays at 1.6 GB.
# After the server's, never beside it: two pips at once would spoil the environment.
$(TEST): $(SERVE)
	@echo "Installing what training and the tests need into $(VENV) (torch is large)"
	@$(PY) .ci/requirements.py $(RUNTIME) training test > $(VENV)/requirements-test.txt
	@$(INSTALL) -r $(VENV)/requirements-test.txt
	@touch $@

# Makers of clients bring versions of their own: they have an environment of their own.
$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/package.json
	@for program in java npm; do command -v $$program >/dev/null || \
		{ echo "make clients needs $$program: install it" >&2; exit 1; }; done
	@echo "Installing the makers of clients into $(CLIENTS)"
	@$(PYTHON) -m venv --clear $(CLIENTS)/python
	@$(CLIENTS)/python/bin/python -m pip --disable-pip-version-check install --quiet -r tests/clients/requirements.txt
	@cp tests/clients/package.json $(CLIENTS)
	@npm install --prefix $(CLIENTS) --silent --no-fund --no-audit
	@touch $@

$(BROWSER): $(TEST)
	@echo "Installing Playwright's driver into $(VENV) (its own browsers are not fetched)"
	@$(PY) .ci/requirements.py browser > $(VENV)/requirements-browser.txt
	@$(INSTALL) -r $(VENV)/requirements-browser.txt
	@touch $@
