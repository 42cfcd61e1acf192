"""What the recipe means once defaults stand in for what it leaves out; each value remembers who chose it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ftc.facts import Facts, load_defaults, template_marks
from ftc.recipe import AdapterTable, QuantizationTable, Recipe
from ftc.source import Source

Origin = Literal["recipe", "planner", "default"]
Precision = Literal["bf16", "fp16", "fp32"]
Dtype = Literal["bfloat16", "float16", "float32"]
LossOn = Literal["assistant", "completion", "all"]
AdapterKind = Literal["lora", "dora", "rslora"]

CHAT_FORMATS = frozenset(("chat", "sharegpt", "alpaca"))
_AMPERE = (8, 0)


class Choice(NamedTuple):
    """A decided value, who decided it, and why."""

    value: Any
    origin: Origin
    because: str


class Quantization(NamedTuple):
    bits: int
    kind: str
    double: bool


class Adapter(NamedTuple):
    kind: AdapterKind
    r: int
    alpha: int
    dropout: float
    targets: str | tuple[str, ...]
    modules_to_save: tuple[str, ...]


class Settings(NamedTuple):
    """Every value of the recipe with its defaults filled in, and `choices`: `table.key` -> who chose it."""

    name: str
    stack: str
    base: str
    revision: str | None
    dtype: Dtype
    attention: str
    chat_template: str
    new_tokens: tuple[str, ...]
    trust_remote_code: bool
    quantization: Quantization | None
    adapter: Adapter | None
    loss_on: LossOn
    max_length: int
    packing: bool
    system_prompt: str | None
    eval_fraction: float | None
    has_eval: bool
    epochs: float
    max_steps: int | None
    global_batch: int
    learning_rate: float
    scheduler: str
    warmup: float
    weight_decay: float
    max_grad_norm: float
    precision: Precision
    optimizer: str
    seed: int
    every: float
    keep: int
    resume: bool
    best: str | None
    trackers: tuple[str, ...]
    project: str | None
    merge: bool
    objective: str
    choices: Mapping[str, Choice]

    @property
    def trains_whole_model(self) -> bool:
        return self.adapter is None


class _Settler:
    """Collects values with their origin: the recipe's own, or else a default with its reason."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.choices: dict[str, Choice] = {}

    def take(self, table: str, key: str, written: Any, default_name: str = "", fallback: Choice | None = None) -> Any:
        name = f"{table}.{key}" if table else key
        if written is not None:
            span = self.source.key(table, key) if table else self.source.key(key)
            choice = Choice(value=written, origin="recipe", because=f"recipe.toml line {span.line}")
            if span.file == "--set":
                choice = Choice(value=written, origin="recipe", because="written with --set")
        elif fallback is not None:
            choice = fallback
        else:
            default = load_defaults()[default_name or name]
            choice = Choice(value=default.value, origin="default", because=default.because)
        self.choices[name] = choice
        return choice.value

    def note(self, name: str, value: Any, because: str, origin: Origin = "default") -> Any:
        self.choices[name] = Choice(value=value, origin=origin, because=because)
        return value


def settle(recipe: Recipe, source: Source, facts: Facts) -> Settings:
    """Returns the recipe with every open value filled in from the defaults and the facts."""
    s = _Settler(source)
    adapter = _settle_adapter(s, recipe.adapter, facts, bool(recipe.model.new_tokens)) if recipe.adapter else None
    quantization = _settle_quantization(s, recipe.quantization) if recipe.quantization else None
    precision = _settle_precision(s, recipe, facts)
    max_steps = recipe.train.max_steps
    if max_steps is not None:
        s.take("train", "max_steps", max_steps)
    return Settings(
        **_settle_names(s, recipe, facts),
        adapter=adapter,
        quantization=quantization,
        precision=precision,
        dtype=_settle_dtype(s, recipe, precision),
        max_steps=max_steps,
        **_settle_data(s, recipe, facts),
        **_settle_training(s, recipe, facts),
        **_settle_outcome(s, recipe),
        choices=s.choices,
    )


def _settle_names(s: _Settler, recipe: Recipe, facts: Facts) -> dict[str, Any]:
    model = recipe.model
    newest = Choice(value=facts.stack.name, origin="default", because="the newest stack that ftc knows")
    attention = model.attention if model.attention != "auto" else None
    return {
        "name": recipe.name,
        "stack": s.take("", "stack", recipe.stack, fallback=newest),
        "base": s.take("model", "base", model.base),
        "revision": model.revision if model.revision is None else s.take("model", "revision", model.revision),
        "attention": s.take("model", "attention", attention),
        "new_tokens": tuple(model.new_tokens or ()),
        "trust_remote_code": s.take("model", "trust_remote_code", model.trust_remote_code),
    }


def _settle_adapter(s: _Settler, table: AdapterTable, facts: Facts, new_tokens: bool) -> Adapter:
    r = s.take("adapter", "r", table.r)
    alpha = table.alpha
    defaults = load_defaults()
    if alpha is None and table.kind == "rslora":
        alpha = s.take("adapter", "alpha", None, "adapter.alpha_rslora")
    elif alpha is None:
        ratio = defaults["adapter.alpha_over_r"]
        alpha = s.note("adapter.alpha", ratio.value * r, ratio.because)
    else:
        s.take("adapter", "alpha", alpha)
    return Adapter(
        kind=s.take("adapter", "kind", table.kind),
        r=r,
        alpha=alpha,
        dropout=s.take("adapter", "dropout", table.dropout),
        targets=s.take("adapter", "targets", table.targets),
        modules_to_save=_modules_to_save(s, table, facts, new_tokens),
    )


def _modules_to_save(s: _Settler, table: AdapterTable, facts: Facts, new_tokens: bool) -> tuple[str, ...]:
    if table.modules_to_save is not None or not new_tokens:
        return tuple(s.take("adapter", "modules_to_save", table.modules_to_save))
    names = token_modules(facts)
    because = "the rows of new tokens start untrained, so the embedding and the head are trained whole"
    return tuple(s.note("adapter.modules_to_save", names, because, "planner"))


def token_modules(facts: Facts) -> tuple[str, ...]:
    """Returns the short names of the modules that hold one row per token: both, or one where they are tied."""
    embedding = facts.model.embedding.rpartition(".")[2]
    head = facts.model.head.rpartition(".")[2]
    return (embedding,) if facts.model.tie_word_embeddings else (embedding, head)


def _settle_quantization(s: _Settler, table: QuantizationTable) -> Quantization:
    bits = s.take("quantization", "bits", table.bits)
    if bits == 8:
        return Quantization(bits=8, kind="int8", double=False)
    return Quantization(
        bits=4,
        kind=s.take("quantization", "kind", table.kind),
        double=s.take("quantization", "double", table.double),
    )


def _settle_precision(s: _Settler, recipe: Recipe, facts: Facts) -> Precision:
    gpu = facts.target.gpu if facts.target else None
    if gpu is None or (gpu.bf16 and not gpu.is_cpu):
        value, because = "bf16", "this GPU computes in bfloat16, which needs no loss scaling"
    elif gpu.is_cpu:
        value, because = "fp32", "sharded runs on a CPU work in float32 only, so every CPU run does"
    else:
        value, because = "fp16", f"{gpu.name} has no bfloat16"
    fallback = Choice(value=value, origin="planner", because=because)
    precision: Precision = s.take("train", "precision", recipe.train.precision, fallback=fallback)
    return precision


def _settle_dtype(s: _Settler, recipe: Recipe, precision: Precision) -> Dtype:
    written = recipe.model.dtype if recipe.model.dtype != "auto" else None
    by_precision: dict[str, Dtype] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
    if recipe.adapter is None:
        value: Dtype = "float32"
        because = "trained weights keep full precision under autocast"
    else:
        value = by_precision[precision]
        because = (
            "the base is frozen, so half precision loses nothing" if precision != "fp32" else "computes in float32"
        )
    dtype: Dtype = s.take("model", "dtype", written, fallback=Choice(value=value, origin="planner", because=because))
    return dtype


def _settle_data(s: _Settler, recipe: Recipe, facts: Facts) -> dict[str, Any]:
    data = recipe.data
    context = facts.model.max_position_embeddings
    default = load_defaults()["data.max_length"]
    fallback = None
    if context is not None and context < default.value:
        fallback = Choice(value=context, origin="default", because="the model's own context")
    fallback_loss = _default_loss(data.train[0].format, recipe, facts)
    loss_on: LossOn = s.take("method", "loss_on", recipe.method.loss_on, fallback=fallback_loss)
    if data.system_prompt is not None:
        s.take("data", "system_prompt", data.system_prompt)
    if data.eval_fraction is not None:
        s.take("data", "eval_fraction", data.eval_fraction)
    return {
        "loss_on": loss_on,
        "chat_template": _settle_template(s, recipe, facts, loss_on),
        "max_length": s.take("data", "max_length", data.max_length, fallback=fallback),
        "packing": s.take("data", "packing", data.packing),
        "system_prompt": data.system_prompt,
        "eval_fraction": data.eval_fraction,
        "has_eval": bool(data.eval) or data.eval_fraction is not None,
    }


def _settle_template(s: _Settler, recipe: Recipe, facts: Facts, loss_on: LossOn) -> str:
    written = recipe.model.chat_template
    marks = template_marks(facts.model.id)
    is_chat = recipe.data.train[0].format in CHAT_FORMATS
    has_template = facts.model.chat_template is not False
    needs_marks = loss_on == "assistant" and is_chat and has_template and written in (None, "auto")
    if needs_marks and marks is not None and not marks.own and marks.family is not None:
        because = "the tokenizer's own does not mark the assistant's tokens; this is its family's that does"
        return str(s.note("model.chat_template", marks.family, because, "planner"))
    return str(s.take("model", "chat_template", written))


def _default_loss(row_format: str, recipe: Recipe, facts: Facts) -> Choice:
    marks = template_marks(facts.model.id)
    own_template = recipe.model.chat_template in (None, "auto")
    if row_format in CHAT_FORMATS and own_template and marks is not None and not (marks.own or marks.family):
        because = (
            "this model's template does not mark the assistant's tokens, so the last answer of each row is trained"
        )
        return Choice(value="completion", origin="planner", because=because)
    if row_format in CHAT_FORMATS:
        return Choice(value="assistant", origin="default", because="the model should learn to answer, not to ask")
    if row_format == "prompt-completion":
        return Choice(value="completion", origin="default", because="the prompt is given, the completion is learnt")
    return Choice(value="all", origin="default", because="raw text has no prompt")


def _settle_training(s: _Settler, recipe: Recipe, facts: Facts) -> dict[str, Any]:
    train = recipe.train
    rate = "train.learning_rate_adapter" if recipe.adapter else "train.learning_rate_full"
    on_cpu = facts.target is not None and facts.target.gpu.is_cpu
    optimizer = train.optimizer if train.optimizer != "auto" else None
    return {
        "epochs": s.take("train", "epochs", train.epochs),
        "global_batch": s.take("train", "global_batch", train.global_batch),
        "learning_rate": s.take("train", "learning_rate", train.learning_rate, rate),
        "scheduler": s.take("train", "scheduler", train.scheduler),
        "warmup": s.take("train", "warmup", train.warmup),
        "weight_decay": s.take("train", "weight_decay", train.weight_decay),
        "max_grad_norm": s.take("train", "max_grad_norm", train.max_grad_norm),
        "optimizer": s.take("train", "optimizer", optimizer, "train.optimizer_cpu" if on_cpu else "train.optimizer"),
        "seed": s.take("train", "seed", train.seed),
    }


def _settle_outcome(s: _Settler, recipe: Recipe) -> dict[str, Any]:
    checkpoint, track = recipe.checkpoint, recipe.track
    every = checkpoint.every if checkpoint.every != "auto" else None
    trackers = s.take("track", "to", track.to if track else None)
    if checkpoint.best is not None:
        s.take("checkpoint", "best", checkpoint.best)
    return {
        "every": s.take("checkpoint", "every", every),
        "keep": s.take("checkpoint", "keep", checkpoint.keep),
        "resume": s.take("checkpoint", "resume", checkpoint.resume),
        "best": checkpoint.best,
        "trackers": tuple(t for t in trackers if t != "none"),
        "project": track.project if track else None,
        "merge": s.take("output", "merge", recipe.output.merge),
        "objective": s.take("plan", "objective", recipe.plan.objective),
    }
