"""Checks before a GPU hour is spent: versions, hardware, disk, data, and the proof of the loss mask.

    python preflight.py              everything; exits 1 where something is wrong
    python preflight.py --versions   only the installed versions
    python preflight.py --no-hardware   on a login node, without the GPUs

Made by ftc 0.1.0 for 1xCPU.
"""

import importlib.metadata
import re
import sys
from hashlib import file_digest
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
SHOWN_ROWS = 2
PROVEN_ROWS = 256
faults: list[str] = []


def check(ok: bool, what: str) -> None:
    print(f"{'ok   ' if ok else 'FAULT'} {what}")
    if not ok:
        faults.append(what)


def finish() -> None:
    if faults:
        sys.exit(f"preflight: {len(faults)} fault(s), nothing was started")
    print("preflight: all is as planned")


# ---------------------------------------------------------------------------
# Versions: what is installed against requirements.txt
# ---------------------------------------------------------------------------


def check_versions() -> None:
    text = (HERE / "requirements.txt").read_text(encoding="utf-8")
    wrong = []
    for name in [
        "torch",
        "transformers",
        "trl",
        "peft",
        "accelerate",
        "datasets",
    ]:
        pinned = re.search(rf"^{name}==([^\s;\\]+)", text, re.MULTILINE)
        try:
            found = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if pinned is None or found != pinned[1]:
            wrong.append(f"{name} {found}, planned {pinned[1] if pinned else '?'}")
    check(not wrong, "versions as pinned" if not wrong else "; ".join(wrong))


# ---------------------------------------------------------------------------
# Hardware
# ---------------------------------------------------------------------------


def check_hardware() -> None:
    import shutil

    import psutil

    host = psutil.virtual_memory().total
    check(host >= 2148009472, f"{host / 2**30:.0f} GiB of RAM, planned 2.0 GiB")
    disk = shutil.disk_usage(HERE).free
    check(disk >= 7098624, f"{disk / 2**30:.0f} GiB of disk, planned 0.0 GiB")


# ---------------------------------------------------------------------------
# Data and the loss mask
# ---------------------------------------------------------------------------


def check_data() -> None:
    import train

    files = {}
    files[train.DATA / "chat.jsonl"] = (
        "8f707d66d4f004340a9ae1ee1692ccf17c0c746b3f42a0031a42a20b9419e29a"
    )
    for path, sha256 in files.items():
        if not path.is_file():
            check(False, f"{path} is not there")
            continue
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        same = found == sha256
        check(same, f"{path.name} {'as compiled' if same else 'is another file'}")


def check_mask() -> None:
    """Runs TRL's own preparation on real rows, and looks at what would be trained."""
    import train
    from trl import SFTTrainer
    from trl.chat_template_utils import (
        get_training_chat_template,
        has_generation_markers,
    )

    tokenizer = train.load_tokenizer()
    rows, _ = train.load_rows()
    print(f"      {len(rows)} training rows")
    rows = rows.select(range(min(PROVEN_ROWS, len(rows))))
    template = None
    if not has_generation_markers(tokenizer.chat_template):
        template = get_training_chat_template(tokenizer)
    trainer = SimpleNamespace(
        _tokenizer=tokenizer,
        chat_template=template,
        completion_only_loss=False,
    )
    settings = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=True,
        max_length=None,
        shuffle_dataset=False,
    )
    # The very code that the training run will use, of the pinned version.
    prepare = SFTTrainer._prepare_dataset
    samples = prepare(trainer, rows, tokenizer, settings, False, None, "preflight")
    report(tokenizer, rows, samples)


def report(tokenizer, rows, samples) -> None:  # noqa: ANN001
    total = trained = cut = untrained = unterminated = wrong = 0
    for index, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        ids, labels = sample["input_ids"], sample["labels"]
        kept = [label for label in labels if label != -100]
        total += len(ids)
        trained += len(kept)
        cut += len(ids) > 256
        untrained += all(label == -100 for label in labels[:256])
        unterminated += not set(tokenizer.all_special_ids).intersection(kept[-3:])
        wrong += not as_planned(tokenizer, row, labels)
        if index < SHOWN_ROWS:
            show(tokenizer, ids, labels)
    check(trained > 0, f"{trained} of {total} tokens are trained")
    check(untrained == 0, f"{untrained} of {len(samples)} rows have no trained token")
    check(unterminated == 0, f"{unterminated} rows do not train the terminator")
    check(wrong == 0, f"{wrong} rows train other text than the assistant's")
    print(f"      {cut} of {len(samples)} rows are longer than 256 tokens and cut")


def as_planned(tokenizer, row, labels) -> bool:  # noqa: ANN001
    """Holds the trained stretches, decoded, against the row's own text."""
    planned = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
    stretches: list[list[int]] = [[]]
    for label in labels:
        if label != -100:
            stretches[-1].append(label)
        elif stretches[-1]:
            stretches.append([])
    texts = [tokenizer.decode(stretch) for stretch in stretches if stretch]
    return len(texts) == len(planned) and all(
        answer.strip() in text for answer, text in zip(planned, texts, strict=True)
    )


def show(tokenizer, ids, labels) -> None:  # noqa: ANN001
    """Prints a row with its trained stretches between [[ and ]]."""
    text, inside = "", False
    for token, label in zip(ids, labels, strict=True):
        if (label != -100) != inside:
            text += "]]" if inside else "[["
            inside = not inside
        text += tokenizer.decode([token])
    print("      " + repr(text + ("]]" if inside else ""))[:2000])


if __name__ == "__main__":
    check_versions()
    if "--versions" not in sys.argv[1:]:
        if "--no-hardware" not in sys.argv[1:]:
            check_hardware()
        check_data()
        check_mask()
    finish()
