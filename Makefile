# Every target does its own set-up first; what is done already is not redone.
#   make demo PYTHON=python3.11    choose the Python
#   make test ROS=kilted           choose the ROS 2 wheels where no ROS 2 is sourced (the tests try both anyway)

PYTHON ?= python3
ROS ?= jazzy
RUN = $(PYTHON) scripts/run.py --ros $(ROS)

.PHONY: help setup demo test bench gpu-check lint format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1	/' | expand -t 20

setup:  ## make this machine ready to run the nodes
	@$(PYTHON) scripts/setup.py --ros $(ROS)

demo:  ## simulated robot -> EXAONE 4.5 -> ROS 2 topics, half a minute; results in demo_out/
	@$(RUN) -- -m exaone_ros.nodes.demo $(ARGS)

test:  ## all lanes: lint, Jazzy, colcon, Kilted, numpy 1.26, TensorRT-RTX
	@$(PYTHON) scripts/test.py $(ARGS)

bench:  ## ours against transformers, ROS overhead, memory; results in bench_out/ and docs/benchmarks.md
	@$(RUN) --test -- -m exaone_ros.bench $(or $(ARGS),--docs docs/benchmarks.md)

gpu-check:  ## what only a GPU can show: TensorRT, ONNX Runtime CUDA, torch CUDA; one JSON line per step
	@$(PYTHON) scripts/gpu_check.py $(ARGS)

lint:  ## ruff and mypy
	@$(PYTHON) scripts/test.py lint

format:  ## let ruff format and sort imports
	@$(RUN) --test -- -m ruff check --fix-only --quiet .
	@$(RUN) --test -- -m ruff format .

clean:  ## remove environments, build folders and results
	rm -rf .venv-* .ros_workspace .test_work build install log demo_out bench_out
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
