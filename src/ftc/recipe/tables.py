"""The pydantic mirror of the recipe: one class per TOML table, strict and frozen, nothing crosses fields.

Every key that may be left out is None here; what stands in for it is decided later, with a reason.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Strings = Annotated[tuple[str, ...], Field(strict=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Extra = dict[str, Any]


class Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class ModelTable(Table):
    base: str = Field(description="hub id of the base model, or a local folder with config.json")
    revision: str | None = Field(None, description="commit of the base model on the hub")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = Field(
        None, description="dtype of the weights in memory; auto: bfloat16 where frozen, float32 where trained"
    )
    attention: str | None = Field(None, description="attention implementation; auto: sdpa")
    chat_template: str | None = Field(None, description="auto (the tokenizer's own), a family name, or a .jinja file")
    new_tokens: Strings | None = Field(None, description="tokens added to the tokenizer and trained")
    trust_remote_code: bool | None = Field(
        None, description="run code from the model's repository; needs a pinned revision"
    )
    extra: Extra | None = Field(None, description="arguments passed through to from_pretrained")


class QuantizationTable(Table):
    bits: Literal[4, 8] = Field(description="bits per weight of the frozen base")
    kind: Literal["nf4", "fp4"] | None = Field(None, description="4-bit data type")
    double: bool | None = Field(None, description="quantize the quantization constants too")


class AdapterTable(Table):
    kind: Literal["lora", "dora", "rslora"] = Field(description="adapter method")
    r: PositiveInt | None = Field(None, description="rank")
    alpha: PositiveInt | None = Field(None, description="scaling: alpha / r, or alpha / sqrt(r) for rslora")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="dropout on its input")
    targets: str | Strings | None = Field(None, description='"all-linear" or a list of module names')
    modules_to_save: Strings | None = Field(None, description="modules trained whole beside the adapter")
    extra: Extra | None = Field(None, description="arguments passed through to LoraConfig")


class MethodTable(Table):
    kind: Literal["sft"] = Field(description="training method")
    loss_on: Literal["assistant", "completion", "all"] | None = Field(None, description="which tokens are trained")


class SourceTable(Table):
    source: str = Field(description="file, glob or hub id")
    format: Literal["chat", "sharegpt", "alpaca", "prompt-completion", "text"] = Field(description="shape of a row")
    columns: dict[str, str] | None = Field(None, description="ours = theirs, where column names differ")
    roles: dict[str, str] | None = Field(None, description="ours = theirs, where role names differ")
    split: str | None = Field(None, description="split of a hub data set")
    revision: str | None = Field(None, description="commit of a hub data set")
    weight: PositiveFloat | None = Field(
        None, description="how often each row is seen per epoch: 0.5 takes half of the rows, 2 repeats them"
    )


Sources = Annotated[tuple[SourceTable, ...], Field(strict=False)]


class DataTable(Table):
    max_length: PositiveInt | None = Field(None, description="longest sequence in tokens; longer ones are cut")
    packing: bool | None = Field(None, description="join short samples into full rows, kept apart")
    system_prompt: str | None = Field(None, description="put before conversations that have none")
    eval_fraction: Fraction | None = Field(None, description="share of the training rows kept for evaluation")
    train: Sources = Field(min_length=1, description="where the training rows come from")
    eval: Sources | None = Field(None, description="where the evaluation rows come from")

    def sources(self) -> Iterator[tuple[str, int, SourceTable]]:
        """Yields every source with the list that it stands in (`train` or `eval`) and its place there."""
        for part, rows in (("train", self.train), ("eval", self.eval or ())):
            for index, row in enumerate(rows):
                yield part, index, row


class TrainTable(Table):
    epochs: PositiveFloat | None = Field(None, description="passes over the data")
    max_steps: PositiveInt | None = Field(None, description="optimizer steps, instead of epochs")
    global_batch: PositiveInt | None = Field(None, description="sequences per optimizer step over all GPUs")
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description="peak learning rate")
    scheduler: str | None = Field(None, description="learning-rate schedule")
    warmup: NonNegativeFloat | None = Field(None, description="below 1: share of all steps; else steps")
    weight_decay: NonNegativeFloat | None = Field(None, description="weight decay")
    max_grad_norm: NonNegativeFloat | None = Field(None, description="gradient clipping; 0: none")
    precision: Literal["bf16", "fp16", "fp32"] | None = Field(None, description="autocast precision")
    optimizer: str | None = Field(None, description="auto, or any name that the stack's transformers knows")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = Field(None, description="random seed")
    extra: Extra | None = Field(None, description="arguments passed through to SFTConfig")


class PlanTable(Table):
    strategy: Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp2"] | None = Field(
        None, description="how the GPUs share the work"
    )
    micro_batch: PositiveInt | None = Field(None, description="sequences per GPU and forward pass")
    gradient_checkpointing: bool | None = Field(None, description="recompute activations in the backward pass")
    offload: Literal["none", "optimizer", "params"] | None = Field(None, description="keep states in host memory")
    kernels: Literal["auto", "none"] | None = Field(None, description="fused kernels")
    objective: Literal["time", "memory"] | None = Field(None, description="what to choose among plans that fit")


class CheckpointTable(Table):
    every: Literal["auto"] | PositiveInt | Fraction | None = Field(
        None, description="auto, steps, or a share of the run"
    )
    keep: PositiveInt | None = Field(None, description="checkpoints kept")
    resume: bool | None = Field(None, description="start from the newest whole checkpoint")
    best: Literal["eval_loss"] | None = Field(None, description="keep the checkpoint with the best metric")


Tracker = Literal["wandb", "tensorboard", "mlflow", "trackio", "none"]


class TrackTable(Table):
    to: Annotated[tuple[Tracker, ...], Field(strict=False)] = Field(description="experiment trackers")
    project: str | None = Field(None, description="project name in the tracker")


class OutputTable(Table):
    merge: bool | None = Field(None, description="fold the adapter into the base after training")


class Recipe(Table):
    """What to fine-tune, as the user wrote it."""

    name: Name = Field(description="also the bundle's folder")
    description: str | None = Field(None, description="one line on what this is for")
    stack: str | None = Field(None, description="tested set of library versions; default: the newest")
    model: ModelTable
    quantization: QuantizationTable | None = None
    adapter: AdapterTable | None = None
    method: MethodTable
    data: DataTable
    train: TrainTable = TrainTable()  # type: ignore[call-arg]
    plan: PlanTable = PlanTable()  # type: ignore[call-arg]
    checkpoint: CheckpointTable = CheckpointTable()  # type: ignore[call-arg]
    track: TrackTable | None = None
    output: OutputTable = OutputTable()  # type: ignore[call-arg]
