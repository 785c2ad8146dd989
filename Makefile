# Everything runs in its own .venv; nothing is needed beforehand but Python 3.11, a C++20 compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
TORCH := $(VENV)/.torch
PACKAGES := sdk edge_runtime cloud_server protos kernels

.PHONY: help demo test lint bench build protos clean

help:
	@echo "make demo   build, start a private compute node on loopback, run real requests"
	@echo "make test   the tests          make lint   types, style and import directions"
	@echo "make bench  the benchmarks     make clean  remove what make made"

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "scikit-build-core>=1.1.2" "nanobind>=3.1" "nanobind-backend>=1.0" "cmake>=3.26" "ninja>=1.11"
	$(PIP) --no-build-isolation -e ".[cloud]"
	@touch $@

$(DEV): $(CORE)
	$(PIP) --no-build-isolation -e ".[dev]"
	@touch $@

$(TORCH): $(DEV)
	$(PIP) torch==2.13.0
	$(PIP) --no-build-isolation -e ".[compress]"
	@touch $@

demo: $(CORE)
	$(BIN)/leanto demo

test: $(TORCH)
	$(BIN)/python -m pytest

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(TORCH)
	$(BIN)/python -m benchmarks

build: $(CORE)
	$(PIP) --no-build-isolation -e . --no-deps

protos: $(DEV)
	$(BIN)/python protos/generate.py

clean:
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
