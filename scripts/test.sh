#!/usr/bin/env bash
# All set-up, then every check: ruff, mypy, the fast tests and those that train. About half an hour on two cores.
#   bash scripts/test.sh -m "not slow"    the fast ones only
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
venv=$(cd -- "${FTC_VENV:-.venv}" && pwd)
"$venv/bin/ruff" check
"$venv/bin/ruff" format --check
"$venv/bin/mypy"
HF_HUB_OFFLINE=1 "$venv/bin/python" -m pytest "$@"
