#!/usr/bin/env bash
# tiny: check, then train, on one machine with 1 x CPU.
#
#   ./launch.sh                          builds .venv from requirements.txt, once
#   ./launch.sh --setup                  builds .venv only, for example on a login node
#   FTC_PYTHON=/opt/env/bin/python ./launch.sh    uses an environment of yours; its versions are checked
#
# Started again after a crash it goes on from the newest whole checkpoint under run/.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

export TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
export HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 # no library reports use
export CUDA_VISIBLE_DEVICES="" # compiled for a CPU

if [[ -n "${FTC_PYTHON:-}" ]]; then
  python=$FTC_PYTHON
else
  python=.venv/bin/python
  if [[ ! -e .venv/complete ]]; then
    echo "launch.sh: building .venv from requirements.txt"
    if command -v uv >/dev/null; then
      uv venv --clear .venv
      uv pip install --python "$python" --require-hashes -r requirements.txt
    else
      python3 -m venv --clear .venv
      "$python" -m pip install --require-hashes -r requirements.txt
    fi
    touch .venv/complete
  fi
fi

if [[ "${1:-}" == --setup ]]; then
  exec "$python" preflight.py --versions
fi
"$python" preflight.py
"$python" -m accelerate.commands.accelerate_cli launch --config_file accelerate.yaml \
  train.py
echo "launch.sh: done, the result is in ${FTC_RUN_DIR:-run}/model"
