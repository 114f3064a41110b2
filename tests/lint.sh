#!/usr/bin/env bash
# Lint, types and layers. mypy and import-linter read a plain package tree, so the mapped folders are copied to .lint/trireme first.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" -m ruff check .
"$python" -m ruff format --check .
mkdir -p .lint
rm -rf .lint/trireme
cp -r trireme .lint/trireme
for folder in retrieval methods benchmarks results configs; do cp -r "$folder" ".lint/trireme/$folder"; done
cd .lint
"../${python}" -m mypy --config-file ../pyproject.toml -p trireme
cd ..
PYTHONPATH=.lint "$(dirname "$python")/lint-imports" --config pyproject.toml --no-cache
