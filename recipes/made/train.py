"""tiny: full fine-tuning of tiny/model, on 1xCPU.

    ./launch.sh                                                checks, then trains
    accelerate launch --config_file accelerate.yaml train.py   trains

Made by ftc 0.1.0 from recipe.toml. Who chose each value, and why: resolved.json.
"""

import json
import os
from pathlib import Path
from typing import Any

# Before the imports, which read them: the libraries' telemetry is off unless asked for.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

import torch
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

HERE = Path(__file__).resolve().parent
RUN = Path(os.environ.get("FTC_RUN_DIR", HERE / "run"))  # checkpoints, result, report
MODEL = str(HERE / "model")
DATA = HERE / "data"

# --- Tokenizer and data -----------------------------------------------------


def load_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(MODEL, trust_remote_code=False)
    return tokenizer


def load_rows() -> tuple[Dataset, Dataset | None]:
    chat = load_dataset("json", data_files=str(DATA / "chat.jsonl"), split="train")
    chat = chat.select_columns(["messages"])
    return chat, None


# --- Guards -----------------------------------------------------------------


class Guard(TrainerCallback):
    """Stops a run that is not the planned one; marks checkpoints that are whole."""

    def __init__(self, trainer: SFTTrainer) -> None:
        self.trainer = trainer
        state = trainer.accelerator.state
        found = (state.num_processes, state.distributed_type.value)
        if found != (1, "NO"):
            raise SystemExit(f"planned 1 x NO, found {found}")

    def on_save(self, _: object, state: Any, *__: object, **___: object) -> None:
        self.trainer.accelerator.wait_for_everyone()  # all ranks have written
        if state.is_world_process_zero:
            (RUN / f"checkpoint-{state.global_step}" / "complete").touch()


def newest_whole_checkpoint() -> str | None:
    whole = [mark.parent for mark in RUN.glob("checkpoint-*/complete")]
    for path in sorted(whole, key=lambda path: -int(path.name.split("-")[1])):
        state = json.loads((path / "trainer_state.json").read_text())
        if state["global_step"] < state["max_steps"]:  # from the last, one more is made
            return str(path)
    return None


# --- Training ---------------------------------------------------------------


def make_arguments() -> SFTConfig:
    return SFTConfig(
        output_dir=str(RUN),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,  # x 4 x 1 = 16 sequences a step
        max_steps=10,
        learning_rate=1e-5,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # share of all steps
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=42,
        bf16=False,  # left out, TRL turns it on
        fp16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        gradient_checkpointing=False,
        max_length=256,  # longer rows are cut; preflight.py counts them
        packing=False,
        assistant_only_loss=True,
        completion_only_loss=False,
        average_tokens_across_devices=True,  # every token weighs the same
        save_strategy="steps",
        save_steps=0.05,  # share of all steps
        save_total_limit=3,
        eval_strategy="no",
        logging_steps=10,
        logging_first_step=True,
        report_to="none",
        trust_remote_code=False,
        model_init_kwargs={
            "dtype": "float32",  # left out, TRL loads float32
            "attn_implementation": "sdpa",
            "use_safetensors": True,  # never unpickle weights
            "device_map": None,  # left out, TRL takes "auto" on one GPU
        },
    )


def main() -> None:
    if (RUN / "run_report.json").exists():
        print(f"{RUN} holds a finished run; move it away to train again")
        return
    args = make_arguments()
    tokenizer = load_tokenizer()
    with args.main_process_first(desc="reading the data"):
        train_rows, eval_rows = load_rows()
    trainer = SFTTrainer(
        model=MODEL,
        args=args,
        train_dataset=train_rows,
        eval_dataset=eval_rows,
        processing_class=tokenizer,
    )
    trainer.add_callback(Guard(trainer))
    result = trainer.train(resume_from_checkpoint=newest_whole_checkpoint())
    trainer.save_model(str(RUN / "model"))  # whole weights under every strategy
    if trainer.is_world_process_zero():
        losses = [x["loss"] for x in trainer.state.log_history if "loss" in x]
        report = {"losses": losses, **result.metrics}
        if torch.cuda.is_available():
            report["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
            report["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
        (RUN / "run_report.json").write_text(json.dumps(report, indent=2) + "\n")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # closes trackers and the process group


if __name__ == "__main__":
    main()
