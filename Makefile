# Everything a developer needs; `make help` lists it.
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
APT    := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Acquire::http::Timeout=30

.DEFAULT_GOAL := help
.PHONY: help run test php browser faults mutants check audit sbom format lock openapi bench bench-growth bench-uploads clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

run: $(VENV)/.installed  ## Start everything on this machine, then print a tour
	@$(BIN)/python main.py --env local

test: $(VENV)/.installed-dev  ## The whole test suite, on real servers
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope

php:  ## Install PHP and Laravel, which the tests of the PHP examples need (Debian, Ubuntu; as root)
	$(APT) update
	$(APT) install --yes --no-install-recommends php-cli php-curl php-mbstring php-sqlite3 phpunit \
	  php-laravel-framework php-guzzlehttp-guzzle >/dev/null

browser:  ## Install the browser that looks at /docs in a test (Debian; as root; elsewhere any Chromium or Chrome does)
	$(APT) update
	$(APT) install --yes --no-install-recommends chromium-headless-shell >/dev/null

coverage: $(VENV)/.installed-dev  ## Unit and integration tests of one module with coverage: make coverage MODULE=products
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope -k $(MODULE) --cov=app/$(MODULE) \
	  --cov-branch --cov-report=term-missing:skip-covered tests/unit tests/api tests/contracts tests/integration

faults: $(VENV)/.installed-dev  ## Kill, freeze and cut off every part, with full counts; a table of what it did
	FAULTS=full $(BIN)/python -m pytest -n $(JOBS) --dist load tests/integration/faults \
	  --ignore tests/integration/faults/test_mutants.py

mutants: $(VENV)/.installed-dev  ## Put each fault into the code: the test that guards against it must fail
	FAULTS=mutants $(BIN)/python -m pytest -n $(JOBS) --dist load tests/integration/faults/test_mutants.py

check: $(VENV)/.installed-dev  ## Lint, format, types, import rules: seconds, no servers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --config pyproject.toml

audit: $(VENV)/.installed-dev  ## Known weaknesses in the locked packages; needs the internet
	$(BIN)/python -m tools.audit

sbom: $(VENV)/.installed-dev  ## What the image holds, as CycloneDX: dist/sbom.cdx.json
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements --output-reproducible --output-file dist/sbom.cdx.json requirements-image.txt

format: $(VENV)/.installed-dev  ## Put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.installed-dev  ## Compile requirements*.in into pinned, hashed requirements*.txt
	@for name in requirements-image requirements requirements-dev deploy/aws/requirements; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --python-version 3.11 $$name.in -o $$name.txt || exit 1; done

openapi: $(VENV)/.installed-dev  ## Write docs/openapi.json from the code
	@$(BIN)/python main.py openapi > docs/openapi.json

bench: $(VENV)/.installed-dev  ## What a request and an attempt cost, beside a plain FastAPI application (20 minutes)
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.processing

bench-growth: $(VENV)/.installed-dev  ## What grows with the number of documents: nothing should (5 minutes, 2 GiB)
	$(BIN)/python -m benchmarks.growth

bench-uploads: $(VENV)/.installed-dev  ## A thousand uploads at once, beside the same bytes straight to S3 (minutes)
	$(BIN)/python -m benchmarks.uploads

clean:  ## Remove the virtual environment, local data and caches
	rm -rf $(VENV) .data dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Dossier needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/.installed
