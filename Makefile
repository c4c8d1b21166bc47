# Everything runs in its own virtual environment. Needs Python 3.11 or newer, git and make.
#   make PYTHON=python3.12 test    uses this interpreter instead of the newest one found
#   make VENV=/elsewhere test      uses this folder instead of .venv

VENV ?= .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null))

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
# One stamp per set of packages; a changed file or another Python version reinstalls them.
RUN := $(VENV)/.run-$(VERSION)
DEV := $(VENV)/.dev-$(VERSION)
SDK := $(VENV)/.sdk-$(VERSION)
SITE := $(VENV)/mkdocs/.made-$(VERSION)
RELEASE_BIN := build/release/bin
RELEASE := build/release/.made-$(VERSION)

.PHONY: help install demo test test-all check format cover bench docs lock sbom clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: $(DEV) $(SDK) ## .venv with everything, and the pre-commit hooks
	@# Linked worktrees share one hooks folder: a hook installed here would run in the others too.
	@if [ -d .git ] && [ ! -e .git/worktrees ]; then \
	  $(VENV)/bin/pre-commit install --allow-missing-config >/dev/null; fi

demo: $(RUN) ## start the gateway on 127.0.0.1:8999 with simulated upstreams: no key, no network
	@$(PY) -m app.simulator.demo

# One more process than cores: the tests of running gateways wait a good deal.
test: $(SDK) ## run the fast tests
	@$(PY) -m pytest -n $$(n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4))) --dist loadfile

# Sequential: soak tests need the whole machine.
test-all: $(SDK) ## run all tests, including whole processes and soak tests
	@$(PY) -m pytest -m "slow or not slow"

check: $(DEV) ## format, lint, spelling, types, import rules: every commit must pass
	@$(VENV)/bin/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/codespell
	@$(VENV)/bin/mypy
	@$(PY) -m pytest -q tests/test_floors.py

format: $(DEV) ## format the code and apply lint fixes
	@$(VENV)/bin/ruff check --quiet --fix . ; $(VENV)/bin/ruff format --quiet .

cover: $(SDK) ## run the fast tests with branch coverage
	@$(PY) -m pytest --cov --cov-report=term-missing:skip-covered

bench: $(DEV) ## measure CPU per request and per streamed chunk, compared with nginx
	@$(PY) -m bench

docs: $(SITE) ## build the documentation's site into build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs/bin/mkdocs build --strict

lock: $(RELEASE) ## renew requirements.lock after a change of requirements*.txt
	@$(RELEASE_BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" -o requirements.lock \
	  requirements.txt requirements-postgres.txt requirements-otel.txt

sbom: $(RELEASE) ## build/sbom.json: what the image installs, as CycloneDX
	@$(PYTHON) -m venv --clear build/locked
	@build/locked/bin/python -m pip --quiet --disable-pip-version-check install --no-compile \
	  --require-hashes -r requirements.lock
	@build/locked/bin/python -m pip --quiet --disable-pip-version-check uninstall -y pip
	@$(RELEASE_BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
	  --of JSON -o build/sbom.json build/locked/bin/python
	@rm -rf build/locked
	@echo "build/sbom.json has $$(grep -c '"purl"' build/sbom.json) packages"

clean: ## remove .venv and the files of tools
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): requirements.txt
	@$(call need_python)
	@[ "$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$(VERSION)" ] \
	|| { echo "making $(VENV) with $(PYTHON) ($(VERSION))"; $(PYTHON) -m venv --clear $(VENV); }
	@$(PIP) install -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements-postgres.txt requirements-otel.txt $(RUN)
	@$(PIP) install -r requirements-dev.txt
	@touch $@

$(SDK): $(wildcard tests/sdk/*) $(DEV)
	@$(PY) -m tests.sdk.install
	@touch $@

# An environment of its own: nothing of the gateway needs it.
$(SITE): requirements-docs.txt
	@$(call need_python)
	@$(PYTHON) -m venv --clear $(VENV)/mkdocs
	@$(VENV)/mkdocs/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	@touch $@

$(RELEASE): requirements-release.txt
	@$(call need_python)
	@$(PYTHON) -m venv --clear build/release
	@$(RELEASE_BIN)/python -m pip --quiet --disable-pip-version-check install -r requirements-release.txt
	@touch $@

define need_python
[ -n "$(VERSION)" ] || { echo "No Python with venv found: this needs Python 3.11 or newer."; \
  echo "On Debian and Ubuntu: apt install python3 python3-venv"; \
  echo "Or name one: make PYTHON=/path/to/python3.12 ..."; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "$(PYTHON) is Python $(VERSION): this needs 3.11 or newer (make PYTHON=python3.12 ...)."; exit 1; }; \
$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python$(VERSION)-venv"; exit 1; }
endef
