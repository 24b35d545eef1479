# `make build` needs nothing but make: it installs packages, makes .venv and compiles. See CONTRIBUTING.md.
BUILD := build/release
BIN := .venv/bin
PYTHON := $(BIN)/python
# An older system's CMake is replaced by one in .venv (scripts/setup).
CMAKE = $(if $(wildcard $(BIN)/cmake),$(BIN)/cmake,cmake)
CTEST = $(if $(wildcard $(BIN)/ctest),$(BIN)/ctest,ctest)
# A file that includes libtorch takes up to 2 GB to compile.
JOBS ?= $(shell awk -v cores=$$(nproc) '/MemTotal/ { jobs = int($$2 / 2097152); if (jobs > cores) jobs = cores; \
        if (jobs < 1) jobs = 1; print jobs }' /proc/meminfo)
FORMATTED = $(shell find src apps tests bench -name '*.h' -o -name '*.cpp')

.PHONY: build setup configure demo demo-vqa test test-all test-cpp test-python build-tests check check-format \
        format bench clean
.DEFAULT_GOAL := build

setup:
	@scripts/setup

configure: setup
	@test -f $(BUILD)/build.ninja || $(CMAKE) --preset release

build: configure
	@ninja -C $(BUILD) -j $(JOBS) gimbal gimbal-run gimbal_python
	@install -m 755 $(BUILD)/apps/cli/gimbal $(BUILD)/apps/cli/gimbal-run $(BIN)/
	@install -m 755 $(BUILD)/python/_native*.so python/gimbal/

build-tests: build
	@ninja -C $(BUILD) -j $(JOBS)

demo: build
	@$(PYTHON) -m gimbal.demo.digits

demo-vqa: build
	@$(PYTHON) -m gimbal.demo.vqa

# SKIP: what the quick run leaves out.
SKIP_CPP := -LE 'slow|gpu'
SKIP_PYTHON := -m 'not slow and not gpu'

test: test-cpp test-python

test-all:
	@$(MAKE) --no-print-directory test SKIP_CPP= SKIP_PYTHON=

test-cpp: build-tests
	@OMP_NUM_THREADS=1 $(CTEST) --test-dir $(BUILD) --output-on-failure --no-tests=error -j $(JOBS) $(SKIP_CPP)

test-python: build-tests
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(SKIP_PYTHON)

check: check-format
	@tools/check_layers
	@tools/check_lengths

# Other versions of clang-format lay some lines out otherwise; the one of Debian 12 counts.
check-format: setup
	@if clang-format --version | grep -q 'version 14\.'; then \
	  clang-format --dry-run -Werror $(FORMATTED); \
	else \
	  echo "format: not checked, this needs clang-format 14 and not $$(clang-format --version)" >&2; \
	fi

format: setup
	@clang-format -i $(FORMATTED)

# Each file of bench/ that can be executed is one benchmark; it prints its figures and writes JSON to build/bench. One that
# misses a limit does not stop the others.
bench: build
	@mkdir -p build/bench; failed=; \
	for file in $$(find bench -type f -perm -u+x | sort); do \
	  echo "== $$file" >&2; \
	  PATH="$$PWD/$(BIN):$$PATH" ./$$file > build/bench/$$(basename $$file .py).json || failed="$$failed $$file"; \
	done; \
	test -z "$$failed" || { echo "limits missed, or failed:$$failed" >&2; exit 1; }

clean:
	rm -rf build
