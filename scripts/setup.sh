#!/usr/bin/env bash
# Makes .venv with ftc, the pinned training stack for a CPU, and what the tests need. Run by the other scripts.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
venv=${FTC_VENV:-.venv}
if [[ ! -x "$venv/bin/ftc" ]]; then
  python3 -m venv "$venv"
  DS_BUILD_OPS=0 "$venv/bin/pip" install --quiet --editable ".[train,dev]"
  "$venv/bin/python" -m compileall -q src # as an installed package is: the start is twice as fast
fi
