# Everything runs in its own .venv; nothing is needed beforehand but Python 3.11, a C++20 compiler and make.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
SANITIZED := .venv-sanitized
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
TORCH := $(VENV)/.torch
PACKAGES := sdk edge_runtime cloud_server protos kernels

.PHONY: help demo test test-privacy test-native test-neon fuzz fuzz-wire lint bench bench-peers build protos clean

help:
	@echo "make demo   build, start a private compute node on loopback, run real requests"
	@echo "make test   the tests, JOBS=2 at once   make lint   types, style and import directions"
	@echo "make test-privacy  a hundred thousand private requests, none of which may send a byte"
	@echo "make test-native  kernels and engine under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make fuzz   malformed artifacts for the loader, messages for the node, MINUTES=10 of each"
	@echo "make fuzz-wire  malformed input for every parser, and frames for the node, CASES=100000 of each"
	@echo "make test-neon    kernels and engine as 64-bit ARM, cross-compiled and run by qemu (Debian)"
	@echo "make bench  the benchmarks     make clean  remove what make made"
	@echo "make bench-peers  speed beside llama.cpp, ik_llama.cpp and ONNX Runtime (installs them)"

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

JOBS := 2
test: $(TORCH)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-privacy: $(DEV)
	$(BIN)/python -m pytest tests/sdk/test_privacy.py -m privacy -s --durations 1

# The kernels and the engine under AddressSanitizer and UndefinedBehaviorSanitizer, in an environment of their own.
# Only what reaches our native code: pycryptodome loads its own with RTLD_DEEPBIND, which AddressSanitizer refuses.
$(SANITIZED)/.done: pyproject.toml constraints.txt kernels/CMakeLists.txt $(wildcard kernels/src/*)
	$(PYTHON) -m venv $(SANITIZED)
	$(SANITIZED)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt "scikit-build-core>=1.1.2" "nanobind>=3.1" "nanobind-backend>=1.0" "cmake>=3.26" "ninja>=1.11"
	$(SANITIZED)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -C cmake.define.LEANTO_SANITIZE=ON -C build-dir=build/sanitized -e ".[dev]"
	@touch $@

test-native: $(SANITIZED)/.done
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc CI=true \
	$(SANITIZED)/bin/python -m pytest tests/kernels tests/edge_runtime tests/fuzz/test_loader.py --timeout 600

# atheris finds the way into the loader, and into what a node reads, by the lines that it reaches; what it learns stays in build/fuzz*.
MINUTES := 10
fuzz: $(DEV)
	$(PIP) "atheris>=3.0"
	mkdir -p build/fuzz build/fuzz-node
	cd tests && ../$(BIN)/python -m fuzz.explore ../build/fuzz -artifact_prefix=../build/ -max_total_time=$$(( $(MINUTES) * 60 ))
	cd tests && ../$(BIN)/python -m fuzz.explore_node ../build/fuzz-node -artifact_prefix=../build/ -max_total_time=$$(( $(MINUTES) * 60 ))

# Every parser, by numbered cases; then connections of malformed HTTP/2 frames to a running node.
CASES := 100000
fuzz-wire: $(DEV)
	cd tests && ../$(BIN)/python -m fuzz.parsers 0 $(CASES) && ../$(BIN)/python -m fuzz.frames 0 $(CASES)

test-neon: $(CORE)
	bash kernels/aarch64/test.sh

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(TORCH)
	$(BIN)/python -m benchmarks

# Other engines in an environment of their own; llama.cpp is compiled for this machine, which takes a quarter of an hour.
bench-peers: $(TORCH)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -c constraints.txt ik-llama-cpp-python==0.1.5 onnxruntime-genai==0.18.0 onnx_ir
	$(PEERS)/bin/pip install --quiet -c constraints.txt torch==2.13.0 transformers
	CMAKE_ARGS=-DGGML_NATIVE=ON $(PEERS)/bin/pip install --quiet -c constraints.txt llama-cpp-python==0.3.36
	$(BIN)/pip install --quiet -c constraints.txt gguf
	$(BIN)/python -m benchmarks.decode --peers $(PEERS)/bin/python --shapes pocket 110M 1B

build: $(CORE)
	$(PIP) --no-build-isolation -e . --no-deps

protos: $(DEV)
	$(BIN)/python protos/generate.py

clean:
	rm -rf build $(VENV) $(PEERS) $(SANITIZED) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
