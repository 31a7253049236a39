#!/usr/bin/env bash
# Write cpu.txt and pypi.txt: every package of the project and its extras, with its version and SHA-256.
# Versions are those of constraints.txt; what it does not name is the newest within the bounds of pyproject.toml.
# Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() {
    local file=$1 title=$2
    shift 2
    uv pip compile pyproject.toml --quiet --python-version 3.11 --constraints constraints.txt --generate-hashes \
        --extra dev --extra sweep --extra cluster --extra tensorboard --extra lite0 --extra onnx \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file "requirements/$file" "$@" >/dev/null
    { printf '# %s. Written by requirements/lock.sh.\n' "$title"; cat "requirements/$file"; } >"requirements/$file.new"
    mv "requirements/$file.new" "requirements/$file"
}
# Where wheels of the CPU's build lie is the machine's own setting of pip.
find_links=$(python3 -m pip config get :env:.find-links 2>/dev/null || true)
lock cpu.txt "Linux on x86_64, Python 3.11, PyTorch without CUDA" ${find_links:+--find-links "$find_links"}
lock pypi.txt "Any system and Python, the builds on PyPI: with CUDA on Linux" --universal
