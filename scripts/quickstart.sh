#!/usr/bin/env bash
# All set-up, then the main job: compile the quickstart for this machine's CPU and train it to the end.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
venv=$(cd -- "${FTC_VENV:-.venv}" && pwd)
"$venv/bin/ftc" compile recipes/quickstart.toml --gpus 1xCPU
run=$PWD/out/quickstart/run
rm -rf -- "$run" # train from the start, not from an earlier try's checkpoint
# One thread: the model is so small that several only get in each other's way.
OMP_NUM_THREADS=1 FTC_PYTHON=$venv/bin/python out/quickstart/launch.sh
"$venv/bin/python" - "$run/run_report.json" <<'PY'
import json, sys

losses = json.load(open(sys.argv[1]))["losses"]
print("loss:", " ".join(f"{loss:.2f}" for loss in losses))
sys.exit(0 if losses[-1] < losses[0] / 2 else "the loss did not fall")
PY
