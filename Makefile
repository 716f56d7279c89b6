# make demo · make test · make check: each puts what it needs into .venv, once.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Every install is pinned, the build's own requirements too (newer pips read the second name for those).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.PHONY: help demo test test-fronts test-pages test-interop test-languages test-inference test-torch test-triton test-containers test-scale test-ray test-packages packages check check-style check-types check-layers check-proto check-unasync check-signatures check-completion check-vectors check-layout check-docs fuzz format unasync completion proto proto-baseline signatures vectors dashboard exactness curves performance clean check-pages check-manual diagrams manual notebooks pages chaos soak
.DELETE_ON_ERROR:

help:
	@echo "make demo     start a server, evaluate real data, compare with reference values"
	@echo "make test     the tests, but for the longer suites below (installs PyTorch)"
	@echo "make test-fronts   the tests of the wire on the front of gRPC's library"
	@echo "make test-interop  clients of other languages, and HTTP/2 tools, on both fronts; installs Debian's packages"
	@echo "make test-languages   the clients of languages/: each replays tests/vectors; installs Debian's packages"
	@echo "make test-inference  Triton's client, from an environment of its own, on both fronts"
	@echo "make test-pages   the pages of the HTTP port, and the manual, in a headless Chromium; installs Debian's packages"
	@echo "make test-torch   lossd.torch: PyTorch's samples, modes and compiler"
	@echo "make test-triton     the GPU's kernels, by Triton's interpreter on this CPU"
	@echo "make test-containers   builds the images and starts them as docker-compose.yml says; needs a container engine"
	@echo "make test-scale   three servers behind one list, under load: slowed, killed, restarted; prints what it saw"
	@echo "make test-ray     two replicas of Ray Serve, in an environment of its own, killed and replaced under load"
	@echo "make test-packages   wheel, sdist and the kernels' wheel, installed as users do, on each Python that is here"
	@echo "make packages    dist/: the wheel and the sdist"
	@echo "make check    style, types, layers, the proto, docs and their examples, and whether generated code is fresh"
	@echo "make fuzz     the codec against the generated classes, then HTTP/2's frames, FUZZ_SECONDS=60 long each"
	@echo "make chaos    every way to call a server while everything fails, CHAOS_SECONDS=60 from CHAOS_SEED=1"
	@echo "make soak     load and refusals on one server, SOAK_SECONDS=1800: what it holds must not grow"
	@echo "make format   write the code as the style check wants it"
	@echo "make unasync  generate the blocking client from the asynchronous one"
	@echo "make proto    generate client/lossd/v1 from proto/"
	@echo "make completion  generate the shells' completion from the parsers of all commands"
	@echo "make signatures    generate the clients' methods from tools/signatures"
	@echo "make pages    generate docs/errors.md from the table of reasons"
	@echo "make vectors  generate tests/vectors, which clients of every language replay"
	@echo "make dashboard     generate Grafana's dashboard from tools/dashboard.py"
	@echo "make exactness, make curves    make the tables and pictures of docs/ anew"
	@echo "make performance               measure lossd beside its peers, write docs/performance.md"
	@echo "make manual   the pages of docs/ as a site, in build/manual"
	@echo "make diagrams, make notebooks  make the manual's pictures of diagrams, and what notebooks print, anew"
	@echo "make clean    remove .venv and everything made"

demo: .venv/demo
	@$(BIN)/python examples/demo.py

# In two processes: half of a test's time is waiting for processes that it starts. PYTEST="-n 0" for one. Files in their
# order, since those with few tests, which are last otherwise, have the slowest.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/dev
	@$(BIN)/python -m pytest $(IN_PARALLEL) $(OF_OTHERS) $(PYTEST)

# What targets of their own run: test-inference, test-pages, test-torch, check-docs, test-triton.
OF_OTHERS := $(addprefix --ignore=tests/,inference pages torch docs) --ignore-glob='*/test_triton_*'

# PyTorch's losses by a server: its own samples, its modes and its compiler.
test-torch: .venv/dev
	@$(BIN)/python -m pytest $(IN_PARALLEL) --quiet tests/torch $(PYTEST)

# An interpreter takes its time: minutes. `make test` has a few cases of each kernel beside those of the CPU.
test-triton: .venv/dev
	@$(BIN)/python -m pytest $(IN_PARALLEL) --quiet tests/backends/test_triton_*.py $(PYTEST)

# `make test` has the Open Inference Protocol by classes of lossd's own.
test-inference: .venv/dev .venv/tritonclient/made
	@$(BIN)/python -m pytest $(IN_PARALLEL) --quiet tests/inference $(PYTEST)

# One after the other: a browser and a server take both cores.
test-pages: .venv/dev .venv/pages .venv/axe/made manual
	@$(BIN)/python -m pytest --quiet tests/pages $(PYTEST)

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

# Skipped, with the reason, where no engine answers or no base image can be had.
test-containers: .venv/dev
	@$(BIN)/python -m pytest --quiet tests/containers $(PYTEST)

# Minutes, on a machine that does nothing else: shares are of measured times. It takes grpc-js from `make test-interop`.
test-scale: .venv/dev
	@$(BIN)/python -m pytest --quiet --capture no tests/scale $(PYTEST)

# Minutes: Ray starts, finds out that a replica is gone, and starts another, at its own pace.
test-ray: .venv/dev .venv/ray/made
	@$(BIN)/python -m pytest --quiet --capture no tests/ray $(PYTEST)

# What is published, built and installed as users install it: wheel, sdist and the kernels' wheel, on each Python that is here.
test-packages: .venv/dev .venv/packages/made
	@$(BIN)/python -m pytest --quiet --capture no tests/packages $(PYTEST)

# dist/: what is published.
packages: .venv/packages/made
	@.venv/packages/bin/python -m hatchling build --directory dist

check: check-style check-types check-layers check-proto check-unasync check-signatures check-completion check-vectors check-layout check-pages check-docs check-manual

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
check-completion: .venv/dev
	$(BIN)/python tools/completion.py --check

check-signatures: .venv/made
	PYTHONPATH=tools $(BIN)/python -m signatures --check

check-vectors: .venv/dev
	PYTHONPATH=.:tools $(BIN)/python -m vectors --check

check-layout: .venv/made
	$(BIN)/python tools/lengths.py
	$(BIN)/python tools/layout.py

check-pages: .venv/made
	$(BIN)/python tools/errors_page.py --check

check-docs: .venv/dev
	$(BIN)/python -m pytest --quiet tests/docs

# A link or an anchor that leads nowhere, and a page that no one finds, fail it.
check-manual: manual

# Not --quiet, with which mkdocs counts no warnings. The variable silences an advertisement.
manual: .venv/manual/made
	NO_MKDOCS_2_WARNING=1 .venv/manual/bin/mkdocs build --strict

# The manual shows a diagram as a picture: drawn anew after a change, by npm's mermaid in a Chromium.
diagrams: .venv/made
	@$(BIN)/python tools/manual/diagrams.py

# Runs docs/*.ipynb and writes what they print and draw.
notebooks: .venv/dev
	@PYTHONPATH=client:server:tools $(BIN)/python -m manual.run_notebook docs/*.ipynb

# Not part of `make test`, which replays what was found (tests/fuzz).
FUZZ_SECONDS ?= 60
fuzz: .venv/fuzz
	@PYTHONPATH=. $(BIN)/python tools/fuzz.py codec -max_total_time=$(FUZZ_SECONDS)
	@PYTHONPATH=. $(BIN)/python tools/fuzz.py frames -max_total_time=$(FUZZ_SECONDS)

# Every way to call a server while everything fails: docs/faults.md. A short run is part of `make test`.
CHAOS_SECONDS ?= 60
CHAOS_SEED ?= 1
chaos: .venv/dev
	@PYTHONPATH=client:server:tools $(BIN)/python -m chaos --seconds $(CHAOS_SECONDS) --seed $(CHAOS_SEED) $(CHAOS)

# Load, and every way to be refused, on one server; what it holds must not grow.
SOAK_SECONDS ?= 1800
soak: .venv/dev
	@PYTHONPATH=client:server:. $(BIN)/python benchmarks/soak.py --seconds $(SOAK_SECONDS) $(SOAK)

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

unasync: .venv/dev
	$(BIN)/python tools/unasync.py

completion: .venv/dev
	$(BIN)/python tools/completion.py

proto: .venv/dev .venv/protoc/made
	$(BIN)/python tools/generate.py

# What `buf breaking` compares with: made anew at each release, never to make a breaking change pass.
proto-baseline: .venv/dev
	$(BIN)/buf build proto --exclude-source-info --output proto/baseline.binpb

signatures: .venv/made
	PYTHONPATH=tools $(BIN)/python -m signatures

pages: .venv/made
	$(BIN)/python tools/errors_page.py

vectors: .venv/dev
	@PYTHONPATH=.:tools $(BIN)/python -m vectors

dashboard: .venv/made
	@$(BIN)/python tools/dashboard.py

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

include tools/environments.mk
