# Two commands on a fresh machine with Python >= 3.11:
#   make demo    the whole road on bundled data, offline once set up
#   make test    linters, types and tests
# Each sets up .venv first, and does nothing again when nothing changed.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs clean

demo: .venv/installed
	$(BIN)/cnncodes demo -o demo

test: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

lint: .venv/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

docs: .venv/installed-test          # write docs/cli.md anew from the commands' help
	$(BIN)/python docs/generate_cli.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cnncodes needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

# torch and torchvision in one command, so that they come as a pair from the same index.
.venv/installed: .venv/bin/python pyproject.toml
	@echo "installing torch, torchvision and cnncodes into .venv: some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf .venv demo build dist .pytest_cache .mypy_cache .ruff_cache
