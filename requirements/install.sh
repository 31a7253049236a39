#!/usr/bin/env bash
# install.sh PYTHON: install what cpu.txt names into PYTHON's environment if its PyTorch is to be had here, else what
# pypi.txt names. Only files with the listed SHA-256 are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
pip=("$1" -m pip --disable-pip-version-check)
torch=$(mktemp --suffix=.txt)
trap 'rm -f "$torch"' EXIT
sed -n '/^torch==/,/[^\\]$/p' requirements/cpu.txt >"$torch"
lock=requirements/pypi.txt
if "${pip[@]}" install --quiet --dry-run --no-deps --require-hashes -r "$torch" 2>/dev/null; then
    lock=requirements/cpu.txt
fi
echo "installing what $lock names"
"${pip[@]}" install --quiet --no-deps --require-hashes -r "$lock"
"${pip[@]}" install --quiet --no-deps --no-build-isolation -e .
