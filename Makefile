# Everything a developer runs. Each target makes what it needs; after the first time none needs a network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

.PHONY: help run emulators test lint format bench docs lock clean

help:
	@echo "make run        start everything on this machine: http://127.0.0.1:8080"
	@echo "make emulators  the same on the Pub/Sub and Firestore emulators and an S3 double"
	@echo "make test       run every test that this machine can run"
	@echo "make lint       ruff and mypy"
	@echo "make bench      how fast jobs are accepted, beside bare FastAPI"
	@echo "make lock       write requirements/*.txt anew from pyproject.toml (needs uv)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "MediaForge needs Python 3.11 or newer; say which with make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "installing what MediaForge runs on into $(VENV)"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@echo "installing the tools for tests into $(VENV)"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

run: $(VENV)/run.stamp
	@exec $(BIN)/mediaforge up

emulators: $(VENV)/dev.stamp
	@exec $(BIN)/python -m services.local.emulated

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/dev.stamp
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/run.stamp
	@$(BIN)/python -m bench.accept

docs: $(VENV)/run.stamp
	@$(BIN)/python -c 'from shared.settings import settings_page; print(settings_page(), end="")' > docs/settings.md

LOCK := uv pip compile pyproject.toml requirements/build.in --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate
lock:
	$(LOCK) --output-file requirements/run.txt
	$(LOCK) --constraints requirements/run.txt --extra dev --output-file requirements/dev.txt
	$(LOCK) --constraints requirements/dev.txt --extra gateway --output-file requirements/gateway.txt
	$(LOCK) --constraints requirements/dev.txt --extra worker --output-file requirements/worker.txt

clean:
	rm -rf $(VENV)
