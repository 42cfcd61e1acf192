"""Folds the adapter into the base: run/model (adapter) -> run/merged (a plain model).

The base is loaded in full precision again: merging into 4-bit weights would save 4-bit weights.
"""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
RUN = Path(os.environ.get("FTC_RUN_DIR", HERE / "run"))
BASE = "meta-llama/Llama-3.1-8B-Instruct"

tokenizer = AutoTokenizer.from_pretrained(str(RUN / "model"))
base = AutoModelForCausalLM.from_pretrained(
    BASE,
    dtype=torch.bfloat16,
    revision="0e9e39f249a16976918f6564b8830bc894c89659",
    trust_remote_code=False,
    use_safetensors=True,
)
merged = PeftModel.from_pretrained(base, str(RUN / "model")).merge_and_unload()
merged.save_pretrained(str(RUN / "merged"))
tokenizer.save_pretrained(str(RUN / "merged"))
print(f"merge.py: {RUN / 'merged'}")
