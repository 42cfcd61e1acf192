#!/usr/bin/env bash
# llama31-70b-qlora: check, then train, on one machine with 4 x A100-80GB-SXM.
#
#   ./launch.sh                          builds .venv from requirements.txt, once
#   ./launch.sh --setup                  builds .venv only, for example on a login node
#   FTC_PYTHON=/opt/env/bin/python ./launch.sh    uses an environment of yours; its versions are checked
#
# Started again after a crash it goes on from the newest whole checkpoint under run/.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-8}"
export TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
export HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 # no library reports use
export PYTORCH_ALLOC_CONF="${PYTORCH_ALLOC_CONF:-expandable_segments:True}" # less fragmentation
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}" TORCH_NCCL_ASYNC_ERROR_HANDLING=1

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
  --main_process_port "${MASTER_PORT:-0}" \
  train.py
echo "launch.sh: done, the result is in ${FTC_RUN_DIR:-run}/model"
