#!/usr/bin/env bash
# Lint, types and layers. mypy and import-linter read a plain package tree, so the mapped folders are copied to .lint/trireme.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
case "$python" in /*) ;; *) python="$PWD/$python" ;; esac
"$python" -m ruff check .
"$python" -m ruff format --check .
rm -rf .lint/trireme
mkdir -p .lint
cp -r trireme .lint/trireme
for folder in retrieval methods benchmarks results configs; do cp -r "$folder" ".lint/trireme/$folder"; done
(cd .lint && "$python" -m mypy --config-file ../pyproject.toml -p trireme)
(cd .lint && "$python" -c 'from importlinter.cli import lint_imports_command as lint; lint()' --config ../pyproject.toml --no-cache)
