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
for package in examples/*/src/*/; do rm -rf ".lint/$(basename "$package")" && cp -r "$package" .lint; done
packages=$(for package in examples/*/src/*/__init__.py; do echo -p "$(basename "$(dirname "$package")")"; done)
# shellcheck disable=SC2086
(cd .lint && "$python" -m mypy --config-file ../pyproject.toml -p trireme $packages)
(cd .lint && "$python" -c 'from importlinter.cli import lint_imports_command as lint; lint()' --config ../pyproject.toml --no-cache)
