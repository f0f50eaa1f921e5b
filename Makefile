# make demo and make test install what they need: missing Debian packages (with sudo if you are not
# root), and a virtual environment in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PREFIX ?= /opt/cvmprof
# Probes need root, but root must leave no files in this directory.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
TESTING := $(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/run/cvmprof-hypothesis

# The distribution's Python, or the newest other one if that is older than 3.11.
PYTHON ?= $(firstword $(foreach each,/usr/bin/python3 python3.13 python3.12 python3.11 python3,\
	$(shell $(each) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(each))))

DEMO_PACKAGES := python3-bpfcc python3-venv gcc g++ pkg-config libfuse3-dev fuse3 libcurl4-openssl-dev \
	libssl-dev zlib1g-dev libsqlite3-dev attr
TEST_PACKAGES := $(DEMO_PACKAGES) git strace chromium chromium-driver iproute2
KERNEL_PACKAGES := qemu-system-x86 kmod busybox-static debian-archive-keyring

# The library that CUDA's driver loads into the command's processes.
GPU_LIBRARY := probes/injection/libcvmprof_gpu.so

# The recorder and what it imports: Python 3.9, standard library only.
RECORDER := __init__.py errors.py phases.py probes profiler/__init__.py profiler/record
RECORDER_TESTS := tests/profiler/record
PROBES_TESTS := tests/test_phases.py tests/probes
# What runs in the Python of the traced command.
STARTUP_TESTS := tests/profiler/session/test_frameworks.py tests/profiler/session/startup
PYTEST39 := pytest==8.4.* hypothesis==6.141.* attrs==25.* exceptiongroup==1.3.* iniconfig==2.1.* \
	packaging==25.* pluggy==1.6.* pygments==2.19.* sortedcontainers==2.4.* tomli==2.2.* \
	typing_extensions==4.15.*

.PHONY: help gpu-pack gpu-rehearsal gpu-join demo test test-real test-kernels mutants bench bench-kernels lint docs install unit unit39 demo-packages test-packages

help:
	@echo 'make demo       publish a model, trace a cold and a warm load of it, write two report pages'
	@echo 'make test       lint, types and all tests'
	@echo 'make test-real  the tests against ground truth with the real cvmfs2, which must be in PATH'
	@echo 'make test-kernels  record on the stock kernels of Debian, in virtual machines'
	@echo 'make mutants    change the joins and findings at random: do the fast tests notice?'
	@echo 'make bench      the benchmarks, each with its goal'
	@echo 'make bench-kernels  the cost of each way of observing, in kernel instructions'
	@echo 'make gpu-pack, gpu-rehearsal, gpu-join  checks on a machine with a GPU: tests/gpu/on_device/README.md'
	@echo 'make lint       ruff, mypy, pyright, and vermin: the recorder runs on Python 3.9'
	@echo 'make docs       write the generated pages of docs/ again'
	@echo 'make install    install in $(PREFIX), owned by root, so that sudo finds "cvmprof"'

# --- targets --------------------------------------------------------------------------------------

demo: demo-packages $(VENV)/.demo $(GPU_LIBRARY)
	$(AS_ROOT) $(BIN)/python -m cvmprof demo

test: lint unit unit39

unit: test-packages $(VENV)/.test $(GPU_LIBRARY)
	$(TESTING) $(BIN)/python -m pytest -p no:cacheprovider

unit39: test-packages $(VENV)/.test39 $(VENV)/typings/cvmprof
	@if [ -s $(VENV)/.test39 ]; then set -x; \
		tests=($(TESTING) PYTHONPATH=$(CURDIR)/$(VENV)/python3.9/site:$(CURDIR)/$(VENV)/typings \
			"$$(cat $(VENV)/.test39)" -m pytest -p no:cacheprovider); \
		"$${tests[@]}" $(PROBES_TESTS); \
		"$${tests[@]}" --confcutdir $(RECORDER_TESTS) $(RECORDER_TESTS) $(STARTUP_TESTS); \
	else echo 'NOT RUN: the tests of the recorder on Python 3.9: none was found'; fi

# The tests against ground truth with the real cvmfs2.
test-real: test-packages $(VENV)/.test
	@command -v cvmfs2 >/dev/null || { echo 'no cvmfs2 is in PATH: install the package cvmfs' >&2; exit 1; }
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 PATH="$$PATH" $(BIN)/python -m pytest -p no:cacheprovider \
		-m "real_client or not real_client" tests/truth tests/runners/lab/test_real_client.py

# Kernels are downloaded once, into $CVMPROF_KERNELS or ~/.cache/cvmprof-kernels.
test-kernels: test-packages $(VENV)/.test-kernels
	@.ci/need $(KERNEL_PACKAGES)
	cd tests && $(TESTING) PYTHONUNBUFFERED=1 ../$(BIN)/python -m kernels $(KERNELS)

# Takes minutes: the guest counts its instructions.
bench-kernels: test-packages $(VENV)/.test-kernels
	@.ci/need $(KERNEL_PACKAGES)
	cd tests && $(TESTING) ../$(BIN)/python -m kernels.cost $(KERNELS)

# Do the fast tests notice? Options: MUTANTS='--sample 200 --seed 7 profiler/wire/*.py'.
mutants: test-packages $(VENV)/.test-mutants
	PYTHONPATH=tests $(BIN)/python -m mutants $(MUTANTS)

$(VENV)/.test-mutants: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.4'
	touch $@

$(VENV)/.test-kernels: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check 'virtme-ng>=1.40'
	touch $@

# What a machine with a GPU needs, packed; the checks there, rehearsed; what it brought, joined.
gpu-pack: test-packages $(VENV)/.test
	$(TESTING) $(BIN)/python tests/gpu/on_device pack

gpu-rehearsal: test-packages $(VENV)/.test
	$(TESTING) $(BIN)/python tests/gpu/on_device measure --rehearse --out "$${OUT:-$(VENV)/gpu-rehearsal}"

gpu-join: $(VENV)/.test
	$(BIN)/python tests/gpu/on_device join "$(OUT)"

bench: test-packages $(VENV)/.test
	$(TESTING) $(BIN)/python tests/bench

lint: $(VENV)/.test $(VENV)/typings/cvmprof
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy -p cvmprof
	$(BIN)/mypy tests
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/vermin --quiet --violations --no-tips --target=3.9- $(RECORDER)
	$(BIN)/vermin --quiet --violations --no-tips --target=3.6- phases.py profiler/session/frameworks.py
	$(BIN)/vermin --quiet --violations --no-tips --target=2.7- --target=3.6- profiler/session/startup

# What is generated from the sources: the tests fail while it is stale.
docs: $(VENV)/.test
	$(BIN)/python docs/schema_document.py
	$(BIN)/python docs/draw_architecture.py
	cd tests && ../$(BIN)/python -m kernels.document

# --- prerequisites --------------------------------------------------------------------------------

demo-packages:
	@.ci/need $(DEMO_PACKAGES)

test-packages:
	@.ci/need $(TEST_PACKAGES)

$(BIN)/python: | demo-packages
	$(if $(PYTHON),,$(error no Python of at least 3.11 was found: name one with PYTHON=))
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cpu,lab,nvml]'
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cpu,lab,nvml,test]'
	touch $@ $(VENV)/.demo

# Without gcc it says so and makes nothing: then GPUs are observed in other ways.
$(GPU_LIBRARY): $(wildcard probes/injection/*.[ch]) probes/events.py probes/gpu.py \
		probes/gpu_library.py | $(VENV)/.demo
	$(BIN)/python -B -m cvmprof.probes.gpu_library

# A link to this directory, so that the type checkers and Python 3.9 find the package "cvmprof" whatever
# the clone is called. It lies in the virtual environment, which searches of the source tree skip.
$(VENV)/typings/cvmprof: | $(BIN)/python
	mkdir -p $(@D)
	ln -sfn ../.. $@

# The file holds the path of a Python 3.9; it is empty if there is none. (unit39 needs --confcutdir
# since the fixtures above $(RECORDER_TESTS) need more than Python 3.9.)
$(VENV)/.test39: Makefile .ci/python3.9 | $(BIN)/python
	.ci/python3.9 $(VENV)/python3.9 >$@.new || true
	if [ -s $@.new ]; then \
		$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --no-deps \
			--target $(VENV)/python3.9/site --python-version 3.9 --only-binary :all: $(PYTEST39); \
		ln -sfn /usr/lib/python3/dist-packages/bcc $(VENV)/python3.9/site/bcc; \
	fi
	mv $@.new $@

# --- an installation that root can trust ----------------------------------------------------------

# The user builds the wheel; root only installs it, and nothing installed points back here.
install: demo-packages $(BIN)/python
	rm -rf build $(VENV)/wheel
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(VENV)/wheel .
	$(AS_ROOT) .ci/install $(PREFIX) $(PYTHON) $(VENV)/wheel/cvmprof-*.whl
