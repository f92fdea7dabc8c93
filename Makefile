# Every target sets up what it needs and does nothing twice. `make` alone explains.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench setup clean

PYTHON ?= python3
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.done
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A sourced ROS 2, another virtual environment, or a parent process that runs from one must not leak in: the ROS 2
# wheels of .venv bring their own libraries and look for packages in AMENT_PREFIX_PATH.
unexport VIRTUAL_ENV LD_LIBRARY_PATH PYTHONPATH PYTHONHOME CMAKE_PREFIX_PATH COLCON_PREFIX_PATH RMW_IMPLEMENTATION
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)

BUILD_INPUTS := setup.py pyproject.toml package.xml CMakeLists.txt \
  $(wildcard cmake/* msg/*.msg srv/*.srv action/*.action nano_agent_ros/engine/native/*) \
  $(wildcard launch/* config/* config/*/* models/*/*)

help:
	@echo 'make demo    a spoken command becomes robot actions on ROS 2 topics (sets everything up first)'
	@echo 'make test    lint, types and all tests (sets up PyTorch for the reference network as well)'
	@echo 'make lint    ruff and mypy only'
	@echo 'make bench   speed and memory of the engine, cost of long conversations, time to an action (some minutes)'
	@echo 'make setup   what demo sets up, without running it; then: $(BIN)/nano-agent --help'
	@echo 'make clean   remove $(VENV) and everything built'
	@echo
	@echo 'Python 3.10 or newer and a C++ compiler are needed; another Python: make PYTHON=python3.12 demo'

demo: setup
	@$(BIN)/nano-agent demo

test: setup lint
	@$(BIN)/python -m pytest

lint: $(DONE)/test
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: setup $(DONE)/bench
	@$(BIN)/python -m bench.engine --out out/engine.json
	@$(BIN)/python -m bench.turns --out out/turns.json --png out/turns.png
	@$(BIN)/python -m bench.command_latency --out out/command_latency.json
	@echo 'Written to out/; docs/benchmarks.md says what the figures mean.'

setup: $(DONE)/build

clean:
	rm -rf $(VENV) build install log *.egg-info nano_agent_ros/engine/*.so

$(DONE)/system-%: tools/system_packages
	@tools/system_packages $*
	@test -x $(BIN)/python || { echo 'Creating $(VENV)'; "$$PYTHON" -m venv $(VENV); }
	@mkdir -p $(DONE) && touch $@

# $(call install,WHAT,ARGUMENTS)
define install
	@echo 'Installing $(1) into $(VENV)'
	@$(PIP) install $(2) || { printf '%s\n' '' 'pip could not install the packages above. Without a network, let pip find' \
	  'wheels in a folder of yours: PIP_FIND_LINKS=/path/to/wheels PIP_NO_INDEX=1 make ...' >&2; exit 1; }
	@touch $@
endef

RUN_REQUIREMENTS := requirements.txt requirements/ros-kilted.txt requirements/build.txt requirements/speech-tiny.txt
TEST_REQUIREMENTS := requirements/train.txt requirements/test.txt requirements/bench.txt requirements/tensorrt-rtx.txt \
  requirements/inspect.txt requirements/record.txt

$(DONE)/run: $(RUN_REQUIREMENTS) | $(DONE)/system-demo
	$(call install,ROS 2 and what the robot needs,$(addprefix -r ,$(RUN_REQUIREMENTS)))

$(DONE)/test: $(TEST_REQUIREMENTS) $(DONE)/run | $(DONE)/system-test
	$(call install,PyTorch and the test tools (large: some minutes),$(addprefix -r ,$(TEST_REQUIREMENTS)))

$(DONE)/bench: requirements/bench.txt $(DONE)/run
	$(call install,what benchmarks need,-r requirements/bench.txt)

$(DONE)/build: $(BUILD_INPUTS) $(DONE)/run
	@$(BIN)/python tools/build_into.py
	@touch $@
