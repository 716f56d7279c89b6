# make demo · make test · make check: each puts what it needs into .venv, once.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Every install is pinned, the build's own requirements too (newer pips read the second name for those).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.PHONY: help demo test test-fronts test-interop test-languages test-inference check check-style check-types check-layers check-proto check-unasync check-signatures check-vectors check-layout check-docs fuzz format unasync proto proto-baseline signatures vectors exactness curves performance clean
.DELETE_ON_ERROR:

help:
	@echo "make demo     start a server, evaluate real data, compare with reference values"
	@echo "make test     every test (installs PyTorch)"
	@echo "make test-fronts   the tests of the wire on the front of gRPC's library"
	@echo "make test-interop  clients of other languages, and HTTP/2 tools, on both fronts; installs Debian's packages"
	@echo "make test-languages   the clients of languages/: each replays tests/vectors; installs Debian's packages"
	@echo "make test-inference  Triton's client, from an environment of its own, on both fronts"
	@echo "make check    style, types, layers, the proto, and whether generated code is fresh"
	@echo "make fuzz     the codec against the generated classes, then HTTP/2's frames, FUZZ_SECONDS=60 long each"
	@echo "make format   write the code as the style check wants it"
	@echo "make unasync  generate the blocking client from the asynchronous one"
	@echo "make proto    generate client/lossd/v1 from proto/"
	@echo "make signatures    generate the clients' methods from tools/signatures"
	@echo "make vectors  generate tests/vectors, which clients of every language replay"
	@echo "make exactness, make curves    make the tables and pictures of docs/ anew"
	@echo "make performance               measure lossd beside its peers, write docs/performance.md"
	@echo "make clean    remove .venv and everything made"

demo: .venv/demo
	@$(BIN)/python examples/demo.py

# In two processes: half of a test's time is waiting for processes that it starts. PYTEST="-n 0" for one. Files in their
# order, since those with few tests, which are last otherwise, have the slowest.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/dev
	@$(BIN)/python -m pytest $(IN_PARALLEL) --ignore tests/inference $(PYTEST)

# `make test` has the Open Inference Protocol by classes of lossd's own.
test-inference: .venv/dev .venv/tritonclient/made
	@$(BIN)/python -m pytest $(IN_PARALLEL) --quiet tests/inference $(PYTEST)

# `make test` runs them on lossd's own HTTP/2.
test-fronts: .venv/dev
	@$(BIN)/python -m pytest $(IN_PARALLEL) --front grpcio --quiet $(FRONT_TESTS) $(PYTEST)

FRONT_TESTS := tests/server tests/client/routing tests/client/shared_memory tests/client/test_memory.py

# Fails where a client is missing that Debian's packages would have brought.
test-interop: .venv/dev .venv/interop
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --makefile tests/interop/Makefile OUT=build/interop PYTHON=$(BIN)/python
	@$(BIN)/python -m pytest --quiet tests/interop $$(cat .venv/interop) $(PYTEST)

# Fails where a language is missing that Debian's packages would have brought. It prints what each did.
test-languages: .venv/dev .venv/interop
	@$(BIN)/python -m pytest --quiet tests/languages $$(cat .venv/interop) $(PYTEST)

check: check-style check-types check-layers check-proto check-unasync check-signatures check-vectors check-layout check-docs

check-style: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

check-types: .venv/dev
	$(BIN)/mypy

check-layers: .venv/dev
	$(BIN)/lint-imports --no-cache --no-logo

check-proto: .venv/dev .venv/protoc/made
	$(BIN)/buf lint proto
	$(BIN)/buf breaking proto --against proto/baseline.binpb
	$(BIN)/python tools/generate.py --check

check-unasync: .venv/dev
	$(BIN)/python tools/unasync.py --check
check-signatures: .venv/made
	PYTHONPATH=tools $(BIN)/python -m signatures --check

check-vectors: .venv/dev
	PYTHONPATH=.:tools $(BIN)/python -m vectors --check

check-layout: .venv/made
	$(BIN)/python tools/lengths.py
	$(BIN)/python tools/layout.py

check-docs: .venv/dev
	$(BIN)/python -m pytest --quiet tests/docs

# Not part of `make test`, which replays what was found (tests/fuzz).
FUZZ_SECONDS ?= 60
fuzz: .venv/fuzz
	@PYTHONPATH=. $(BIN)/python tools/fuzz.py codec -max_total_time=$(FUZZ_SECONDS)
	@PYTHONPATH=. $(BIN)/python tools/fuzz.py frames -max_total_time=$(FUZZ_SECONDS)

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

unasync: .venv/dev
	$(BIN)/python tools/unasync.py

proto: .venv/dev .venv/protoc/made
	$(BIN)/python tools/generate.py

# What `buf breaking` compares with: made anew at each release, never to make a breaking change pass.
proto-baseline: .venv/dev
	$(BIN)/buf build proto --exclude-source-info --output proto/baseline.binpb

signatures: .venv/made
	PYTHONPATH=tools $(BIN)/python -m signatures

vectors: .venv/dev
	@PYTHONPATH=.:tools $(BIN)/python -m vectors

exactness: .venv/dev
	@PYTHONPATH=.:tools $(BIN)/python -m exactness

curves: .venv/dev
	@$(BIN)/python tools/curves.py
	@$(BIN)/python tools/training.py

# Beside its peers, on a quiet machine with h2load: about ten minutes. PERFORMANCE="--only small" for a part.
performance: .venv/dev .venv/peers/made
	@PYTHONPATH=client:server:tools $(BIN)/python benchmarks/performance.py $(PERFORMANCE)

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A file stands for each thing that it holds, so that a second call costs nothing.

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "lossd needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
		|| { echo "Python's venv module is not complete; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/demo: .venv/made pyproject.toml constraints.txt
	@echo "installing lossd and its server into .venv"
	@$(PIP) install --editable '.[server]'
	@touch $@

.venv/dev: .venv/made pyproject.toml constraints.txt
	@echo "installing lossd, PyTorch and the tools of test and check into .venv (some minutes the first time)"
	@$(PIP) install --editable '.[dev]'
	@touch .venv/demo $@

# Other languages: Debian's, where we may install them. What is there already is used otherwise.
.venv/interop: tests/interop/packages.txt languages/packages.txt .venv/made
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing other languages' gRPC with apt"; \
		apt-get update -qq && (cat $(filter %.txt,$^); command -v npm >/dev/null || echo npm) \
			| DEBIAN_FRONTEND=noninteractive xargs apt-get install -y -qq --no-install-recommends >/dev/null \
			&& echo --every-client >$@; \
	else \
		echo "languages that are not installed are left out: tests/interop/packages.txt has Debian's names"; : >$@; \
	fi

.venv/fuzz: .venv/dev
	@echo "installing the fuzzer into .venv"
	@$(PIP) install --editable '.[dev,fuzz]'
	@touch $@

# The code is generated by the oldest grpcio-tools supported. It wants an older protobuf than the tools beside it, so it
# has an environment of its own.
.venv/protoc/made: .venv/made tools/protoc.txt
	@echo "installing the protocol compiler into .venv/protoc"
	@$(PYTHON) -m venv .venv/protoc
	@PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv/protoc/bin/python -m pip --disable-pip-version-check --quiet \
		install --requirement tools/protoc.txt
	@touch $@

# Triton's client wants an older protobuf, PyTriton an older numpy: the peers have an environment of their own too.
.venv/peers/made: .venv/made benchmarks/peers/requirements.txt
	@echo "installing the benchmark's peers into .venv/peers"
	@$(PYTHON) -m venv .venv/peers
	@PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv/peers/bin/python -m pip --disable-pip-version-check --quiet \
		install --requirement benchmarks/peers/requirements.txt
	@touch $@

# What tests/inference runs: it wants an older protobuf than the tools beside it.
.venv/tritonclient/made: .venv/made tests/inference/requirements.txt
	@echo "installing Triton's client into .venv/tritonclient"
	@$(PYTHON) -m venv .venv/tritonclient
	@PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv/tritonclient/bin/python -m pip --disable-pip-version-check --quiet \
		install --requirement tests/inference/requirements.txt
	@touch $@
