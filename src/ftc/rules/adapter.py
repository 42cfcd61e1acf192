"""Adapters and quantization: what PEFT and bitsandbytes refuse, or quietly leave out."""

from collections.abc import Iterator

from ftc.diagnostic import Diagnostic, did_you_mean
from ftc.facts import load_words, matches_target
from ftc.rules.context import Context
from ftc.settings import token_modules

_DATA_DEPENDENT_INITS = ("pissa", "loftq", "corda", "eva")


def quantization_without_adapter(c: Context) -> Iterator[Diagnostic]:
    """FTC430"""
    if c.recipe.quantization and not c.recipe.adapter:
        yield c.error(
            "FTC430",
            "quantized weights cannot be trained, and there is no adapter",
            ("quantization",),
            'add `[adapter] kind = "lora"`, or remove `[quantization]`',
        )


def unknown_target(c: Context) -> Iterator[Diagnostic]:
    """FTC431"""
    targets = c.settings.adapter.targets if c.settings.adapter else ()
    if targets == "all-linear":
        return
    names = (targets,) if isinstance(targets, str) else targets
    known = list(dict.fromkeys(m.module for m in c.facts.model.linears))
    short = sorted({name.rpartition(".")[2] for name in known})
    for index, name in enumerate(names):
        if _is_head(c, name) or any(matches_target(module, name) for module in known):
            continue
        at = ("adapter", "targets") if isinstance(targets, str) else ("adapter", "targets", index)
        hints = did_you_mean(name, ["all-linear", *short])
        yield c.error("FTC431", f"`{name[:80]}` is no linear module of {c.facts.model.id}", at, *hints)


def _is_head(c: Context, name: str) -> bool:
    return name.rpartition(".")[2] == c.facts.model.head.rpartition(".")[2]


def adapter_on_head(c: Context) -> Iterator[Diagnostic]:
    """FTC432"""
    targets = c.settings.adapter.targets if c.settings.adapter else ()
    for index, name in enumerate((targets,) if isinstance(targets, str) else targets):
        if _is_head(c, name):
            yield c.error(
                "FTC432",
                f"TRL refuses an adapter on `{name}`: its fused head reads the plain weight",
                ("adapter", "targets") if isinstance(targets, str) else ("adapter", "targets", index),
                f'write `modules_to_save = ["{name}"]` instead',
            )


def unknown_saved_module(c: Context) -> Iterator[Diagnostic]:
    """FTC433"""
    names = c.recipe.adapter.modules_to_save or () if c.recipe.adapter else ()
    known = sorted({m.module.rpartition(".")[2] for m in c.facts.model.modules} | {c.facts.model.head})
    for index, name in enumerate(names):
        if name.rpartition(".")[2] not in known:
            at = ("adapter", "modules_to_save", index)
            yield c.error("FTC433", f"`{name[:80]}` is no module of {c.facts.model.id}", at, *did_you_mean(name, known))


def rank_above_width(c: Context) -> Iterator[Diagnostic]:
    """FTC434"""
    adapter = c.settings.adapter
    widths = [min(m.shape[0], m.shape[-1]) for m in c.facts.model.linears]
    if adapter and widths and adapter.r > max(widths):
        yield c.error(
            "FTC434",
            f"rank {adapter.r} is above the width of every layer ({max(widths)})",
            ("adapter", "r"),
            "write a smaller `r`: 8 to 128 is usual",
        )


def merge_without_adapter(c: Context) -> Iterator[Diagnostic]:
    """FTC435"""
    if c.settings.merge and c.settings.adapter is None:
        yield c.error(
            "FTC435",
            "there is no adapter to merge",
            ("output", "merge"),
            "remove `merge`, or add `[adapter]`",
        )


def experts_stay_unquantized(c: Context) -> Iterator[Diagnostic]:
    """FTC437"""
    model = c.facts.model
    if c.settings.quantization and model.fused_experts and model.params_routed_experts:
        left = model.params_total - model.bnb_params
        yield c.warning(
            "FTC437",
            f"{left / 1e9:.1f} of {model.params_total / 1e9:.1f} B parameters stay in 16 bits: the experts of "
            f"{model.architecture} are fused tensors that bitsandbytes does not touch",
            ("quantization", "bits"),
            "budget with that in mind, or take a dense model",
        )


def four_bit_keys_with_eight(c: Context) -> Iterator[Diagnostic]:
    """FTC440"""
    table = c.recipe.quantization
    if table is None or table.bits != 8:
        return
    for key in ("kind", "double"):
        if getattr(table, key) is not None:
            yield c.error(
                "FTC440",
                f"`{key}` belongs to 4-bit weights, `bits` is 8",
                ("quantization", key),
                f"remove `{key}`",
            )


def saved_and_targeted(c: Context) -> Iterator[Diagnostic]:
    """FTC441"""
    adapter = c.settings.adapter
    if adapter is None or isinstance(adapter.targets, str):
        return
    for index, name in enumerate(adapter.targets):
        if name in adapter.modules_to_save:
            yield c.error(
                "FTC441",
                f"`{name}` is both adapted and trained whole",
                ("adapter", "targets", index),
                "keep it in one of `targets` and `modules_to_save`",
            )


def dropout_on_parameters(c: Context) -> Iterator[Diagnostic]:
    """FTC443"""
    extra = c.recipe.adapter.extra or {} if c.recipe.adapter else {}
    if extra.get("target_parameters") and c.settings.adapter and c.settings.adapter.dropout > 0:
        yield c.error(
            "FTC443",
            "PEFT has no dropout for adapters on plain parameters (`target_parameters`)",
            ("adapter", "dropout"),
            "write `dropout = 0.0`",
        )


def weight_reading_init_on_quantized(c: Context) -> Iterator[Diagnostic]:
    """FTC444"""
    extra = c.recipe.adapter.extra or {} if c.recipe.adapter else {}
    init = extra.get("init_lora_weights")
    if isinstance(init, str) and init.startswith(_DATA_DEPENDENT_INITS) and c.settings.quantization:
        yield c.error(
            "FTC444",
            f"`{init}` starts the adapter from the full weights, the base is quantized",
            ("adapter", "extra", "init_lora_weights"),
            "remove `init_lora_weights`, or `[quantization]`",
        )


def layer_pattern_alone(c: Context) -> Iterator[Diagnostic]:
    """FTC445"""
    extra = c.recipe.adapter.extra or {} if c.recipe.adapter else {}
    if extra.get("layers_pattern") and extra.get("layers_to_transform") is None:
        yield c.error(
            "FTC445",
            "`layers_pattern` says where layer numbers stand, and no `layers_to_transform` picks any",
            ("adapter", "extra", "layers_pattern"),
            "add `layers_to_transform`, or remove `layers_pattern`",
        )


def new_tokens_untrained(c: Context) -> Iterator[Diagnostic]:
    """FTC515"""
    if not c.settings.new_tokens or c.settings.adapter is None or c.recipe.adapter is None:
        return
    needed = token_modules(c.facts)
    missing = [name for name in needed if name not in c.settings.adapter.modules_to_save]
    if missing and c.recipe.adapter.modules_to_save is not None:
        names = ", ".join(f'"{n}"' for n in (*c.settings.adapter.modules_to_save, *missing))
        yield c.error(
            "FTC515",
            f"the rows of {len(c.settings.new_tokens)} new tokens in `{missing[0]}` would stay random",
            ("adapter", "modules_to_save"),
            f"write `modules_to_save = [{names}]`, or leave it out",
        )


def layers_without_a_list(c: Context) -> Iterator[Diagnostic]:
    """FTC446"""
    extra = c.recipe.adapter.extra or {} if c.recipe.adapter else {}
    if (
        extra.get("layers_to_transform") is not None
        and c.settings.adapter
        and isinstance(c.settings.adapter.targets, str)
    ):
        yield c.wrong_key(
            "FTC446",
            "PEFT picks layers only from a list of target modules",
            ("adapter", "extra", "layers_to_transform"),
            'write `targets = ["q_proj", "v_proj"]`, or another list',
        )


def vision_model_loaded_as_text(c: Context) -> Iterator[Diagnostic]:
    """FTC421"""
    if c.facts.model.architecture not in load_words()["vision"]["architectures"]:
        return
    for wanted, at in ((c.settings.merge, ("output", "merge")), (c.settings.new_tokens, ("model", "new_tokens"))):
        if wanted:
            yield c.wrong_key(
                "FTC421",
                f"`{at[1]}` loads the model as a causal language model, which {c.facts.model.architecture} is not",
                at,
                f"remove `{at[1]}`",
            )


RULES = (
    vision_model_loaded_as_text,
    layers_without_a_list,
    quantization_without_adapter,
    unknown_target,
    adapter_on_head,
    unknown_saved_module,
    rank_above_width,
    merge_without_adapter,
    experts_stay_unquantized,
    four_bit_keys_with_eight,
    saved_and_targeted,
    dropout_on_parameters,
    weight_reading_init_on_quantized,
    layer_pattern_alone,
    new_tokens_untrained,
)
