# Two commands: `make demo` runs the main job, `make test` passes the tests. Each sets up all it needs in .venv/.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
comma := ,
SOURCES := $(shell find cpp -type f) CMakeLists.txt pyproject.toml

SECONDS ?= 60

.PHONY: demo test lint asan tsan build fuzz clean help

help:
	@echo "make demo   build, read handwritten digits beside onnxruntime, compress and serve the reader, write a report"
	@echo "make test   build and run the tests"
	@echo "make lint   formatting, types and static checks"
	@echo "make asan   the tests of what reads foreign bytes, under AddressSanitizer and UndefinedBehaviorSanitizer (clang)"
	@echo "make tsan   the tests of the server's and the runtime's threads, under ThreadSanitizer"
	@echo "make build  a developer's build in build/ (then: PYTHONPATH=python)"
	@echo "make fuzz   run each fuzz target for SECONDS=60 seconds, from what make asan compiles (clang)"
	@echo "make clean  remove what the others made"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip

# The package itself, from these sources.
$(VENV)/.installed: $(BIN)/python $(SOURCES) $(shell find python -name '*.py')
	@echo "Building Linnet (a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet .
	@touch $@

$(VENV)/.peers: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --prefer-binary onnxruntime onnx grpcio protobuf aiohttp 'tomli; python_version < "3.11"' 'tritonclient[grpc]'
	@touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --prefer-binary -r tests/requirements.txt
	@touch $@

demo: $(VENV)/.peers
	$(BIN)/linnet demo

test: $(VENV)/.tests
	LINNET_BUILD=$$(ls -d $(CURDIR)/build/cp3*) $(BIN)/python -m pytest tests -n 2

lint: $(VENV)/.tests
	$(BIN)/python -m pip install --quiet ruff==0.17.6 mypy==2.4.1
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then \
	  find cpp -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cpp' | xargs clang-format --dry-run -Werror && \
	  echo "clang-format: all of cpp/ is formatted"; \
	else echo "The C++ formatting was not checked: other versions than clang-format 14 format differently"; fi

# A package of its own in build/NAME, instrumented. The interpreter is not: the runtimes are loaded before it.
# $(call instrumented,NAME,SANITIZERS,COMPILER,CMAKE OPTIONS)
define instrumented
	$(BIN)/python -m pip install --quiet pybind11 cmake ninja
	mkdir -p build/$(1) && tar -C python --exclude='*.so' --exclude=__pycache__ -c linnet | tar -C build/$(1) -x
	PATH=$(CURDIR)/$(BIN):$$PATH CXX=$(3) cmake -G Ninja -B build/$(1) -DLINNET_SANITIZE=$(2) \
	  -DLINNET_PYTHON=ON -DLINNET_LIBRARY=OFF -DLINNET_TOOLS=OFF -DLINNET_MODULE_FOLDER=$(CURDIR)/build/$(1)/linnet \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python $(4) . >/dev/null
	$(BIN)/ninja -C build/$(1) --quiet _core
endef

asan: $(VENV)/.tests
	$(call instrumented,asan,address$(comma)undefined,clang++,-DLINNET_FUZZ=ON)
	LD_PRELOAD="$$(clang++ -print-file-name=libclang_rt.asan-$$(uname -m).so) $$(clang++ -print-file-name=libstdc++.so.6)" \
	  UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=build/asan \
	  $(BIN)/python -m pytest tests/test_onnx_suite.py tests/onnx tests/test_bad_input.py tests/graph tests/passes \
	  tests/ops tests/runtime tests/hostile tests/serve/test_codec_*.py tests/serve/test_scheduler.py -n 2

# A fork of a process with threads is what ThreadSanitizer cannot follow.
tsan: $(VENV)/.tests
	$(call instrumented,tsan,thread,g++)
	LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" TSAN_OPTIONS="halt_on_error=1 suppressions=tests/tsan_suppressions.txt" \
	  PYTHONPATH=build/tsan \
	  $(BIN)/python -m pytest tests/serve/test_scheduler.py tests/python/test_threads.py \
	  --deselect tests/python/test_threads.py::test_fork_after_use

build: $(BIN)/python
	$(BIN)/python -m pip install --quiet numpy pybind11 cmake ninja
	PATH=$(CURDIR)/$(BIN):$$PATH cmake -G Ninja -B build -DLINNET_PYTHON=ON -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python .
	$(BIN)/ninja -C build

fuzz: $(VENV)/.tests
	$(BIN)/python -m pip install --quiet cmake ninja
	PYTHON=$(CURDIR)/$(BIN)/python tests/fuzz/run.sh $(SECONDS)

clean:
	rm -rf build build-fuzz $(VENV) report python/linnet/*.so
