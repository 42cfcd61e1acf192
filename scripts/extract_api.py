"""Extracts the API surface of a stack from the installed libraries: every argument that train.py could pass.

    python scripts/extract_api.py src/ftc/facts/data/stacks/2026.11/api.json
    python scripts/extract_api.py --check src/ftc/facts/data/stacks/2026.11/api.json

`--check` exits 1 where the file differs from what is installed.
"""

import ast
import dataclasses
import enum
import importlib.metadata
import inspect
import json
import os
import re
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

os.environ.update(TRL_EXPERIMENTAL_SILENCE="1", DS_ACCELERATOR="cpu", HF_HUB_OFFLINE="1")

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "bitsandbytes")
CONFIGS = ("SFTConfig", "DPOConfig", "RewardConfig", "KTOConfig", "GRPOConfig", "RLOOConfig")
EMPTY = inspect.Parameter.empty
PLAIN = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null"}


def main(arguments: list[str]) -> int:
    path = Path(arguments[-1])
    text = json.dumps(extract(), indent=1, sort_keys=True) + "\n"
    if "--check" in arguments:
        same = path.read_text(encoding="utf-8") == text
        print(f"{path} {'is' if same else 'is not'} what is installed")
        return 0 if same else 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 0


def extract() -> dict[str, Any]:
    """Returns the whole surface."""
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    return {
        "versions": {name: importlib.metadata.version(name).partition("+")[0] for name in LIBRARIES},
        "classes": extract_classes(),
        "functions": extract_functions(),
        "optimizers": sorted(o.value for o in OptimizerNames),
        "schedulers": sorted(s.value for s in SchedulerType),
        "reports": extract_reports(),
        "scheduler_arguments": extract_scheduler_arguments(),
        "attention": extract_attention(),
        "accelerate": extract_accelerate(),
        "deepspeed": extract_deepspeed(),
        "chat_templates": extract_templates(),
    }


def extract_classes() -> dict[str, Any]:
    import peft
    import transformers
    import trl

    classes = {name: {"module": "trl", "fields": dataclass_fields(getattr(trl, name))} for name in CONFIGS}
    classes["LoraConfig"] = {"module": "peft", "fields": dataclass_fields(peft.LoraConfig)}
    quantization = signature_fields(transformers.BitsAndBytesConfig.__init__)
    classes["BitsAndBytesConfig"] = {"module": "transformers", "fields": quantization}
    classes["SFTTrainer"] = {"module": "trl", "fields": signature_fields(trl.SFTTrainer.__init__)}
    return classes


def dataclass_fields(cls: type) -> dict[str, Any]:
    """Returns the init fields of a dataclass; `own` tells those that it adds to its bases."""
    hints = typing.get_type_hints(cls)
    own = inspect.get_annotations(cls)
    return {
        f.name: {
            **describe(hints.get(f.name, Any), f.type, f.metadata.get("choices")),
            "default": default_of(f),
            "own": f.name in own,
        }
        for f in dataclasses.fields(cls)
        if f.init
    }


def default_of(field: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return {"required": True}


def plain(value: Any) -> Any:
    """Returns the value where JSON can say it, else what it prints as, without addresses."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return {"repr": re.sub(r" at 0x[0-9a-f]+", "", repr(value))}
    return value


def signature_fields(function: Any) -> dict[str, Any]:
    """Returns the named parameters of a function."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        hints = {}
    fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        required = parameter.default is parameter.empty
        default = {"required": True} if required else plain(parameter.default)
        fields[name] = {**describe(hints.get(name, Any), parameter.annotation), "default": default, "own": True}
    return fields


def describe(hint: Any, annotation: Any, choices: Any = None) -> dict[str, Any]:
    """Returns a readable type, the kinds of TOML value that it takes, and its words where only some are known."""
    shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    readable = re.sub(r"\b(typing|collections\.abc|pathlib|(?:transformers|deepspeed)\.[\w.]+)\.", "", shown)
    described = {"type": "any value" if annotation is EMPTY else readable, "accepts": sorted(accepts(hint))}
    words = sorted(w for w in choices or words_of(hint) if isinstance(w, str))
    if words and not any("[" in word for word in words):  # "pissa_niter_[number of iters]" stands for many
        described["choices"] = words
    return described


def words_of(hint: Any) -> set[str]:
    """Returns the strings that an annotation of literals and enums names."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {member.value for member in hint if isinstance(member.value, str)}
    if typing.get_origin(hint) is typing.Literal:
        return {word for word in typing.get_args(hint) if isinstance(word, str)}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*(words_of(a) for a in typing.get_args(hint)))
    return set()


def accepts(hint: Any) -> set[str]:
    if hint in PLAIN:
        return {PLAIN[hint]}
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(accepts(a) for a in typing.get_args(hint)))
    if origin is typing.Annotated:
        return accepts(typing.get_args(hint)[0])
    if origin is typing.Literal:
        return {PLAIN[type(a)] for a in typing.get_args(hint)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {PLAIN[type(member.value)] for member in hint}
    return {kind_of(origin or hint)}


def kind_of(base: Any) -> str:
    named = {list: "list", tuple: "list", set: "list", dict: "dict", os.PathLike: "str", Path: "str"}
    return "dict" if hasattr(base, "model_fields") else named.get(base, "any")


def extract_functions() -> dict[str, Any]:
    import datasets
    import transformers

    model = transformers.PreTrainedModel.from_pretrained
    tokenizer = transformers.PreTrainedTokenizerBase.from_pretrained
    return {
        "AutoModelForCausalLM.from_pretrained": {"fields": from_pretrained_fields(model)},
        "AutoTokenizer.from_pretrained": {"fields": from_pretrained_fields(tokenizer)},
        "datasets.load_dataset": {"fields": signature_fields(datasets.load_dataset)},
    }


def from_pretrained_fields(function: Any) -> dict[str, Any]:
    """Returns named parameters and every key that the function takes out of its kwargs."""
    fields = {n: f for n, f in signature_fields(function).items() if n not in ("cls", "pretrained_model_name_or_path")}
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if is_kwargs_read(node):
            assert isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant)
            name = str(node.args[0].value)
            default = ast.unparse(node.args[1]) if len(node.args) > 1 else "None"
            fields.setdefault(name, {"type": "any value", "accepts": ["any"], "default": default, "own": True})
    return {name: field for name, field in fields.items() if not name.startswith("_")}


def is_kwargs_read(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("pop", "get")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "kwargs"
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
    )


def extract_scheduler_arguments() -> dict[str, list[str]]:
    """Returns for each scheduler what `lr_scheduler_kwargs` may hold, `*` for anything."""
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    filled = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    return {
        name.value: sorted("*" if n == "kwargs" else n for n in set(inspect.signature(function).parameters) - filled)
        for name, function in TYPE_TO_SCHEDULER_FUNCTION.items()
    }


def extract_reports() -> list[str]:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    return sorted(INTEGRATION_TO_CALLBACK)


def extract_attention() -> list[str]:
    from transformers.modeling_utils import AttentionInterface

    return sorted({"eager", *AttentionInterface._global_mapping})


def extract_accelerate() -> dict[str, list[str]]:
    """Returns the keys of accelerate's config file; those of sub-tables are what its launcher hands on.

    The FSDP plugin reads variables with other names, which no key reaches (FSDP_TRANSFORMER_CLS_TO_WRAP).
    """
    import accelerate
    from accelerate.commands.config.config_args import ClusterConfig

    root = Path(accelerate.__file__).parent
    handed_on = (root / "utils" / "launch.py").read_text()
    launch = handed_on + (root / "commands" / "launch.py").read_text()
    fsdp = set(re.findall(r'args(?:\.|, ")(fsdp_\w+)', handed_on))
    deepspeed = set(re.findall(r"args\.(deepspeed_\w+|zero\w+|offload_\w+)", launch))
    deepspeed.remove("deepspeed_fields_from_accelerate_config")  # the launcher sets it itself
    return {
        "top": sorted({f.name for f in dataclasses.fields(ClusterConfig)} | {"compute_environment", "debug"}),
        "fsdp_config": sorted(fsdp),
        "deepspeed_config": sorted(deepspeed | {"gradient_accumulation_steps", "gradient_clipping"}),
    }


def extract_deepspeed() -> dict[str, Any]:
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig as OptimizerConfig
    from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadParamConfig as ParamConfig

    return {
        "top": read_top_keys(),
        "bf16": model_fields(DeepSpeedBF16Config),
        "fp16": model_fields(DeepSpeedFP16Config),
        "zero_optimization": model_fields(DeepSpeedZeroConfig),
        "offload_optimizer": model_fields(OptimizerConfig),
        "offload_param": model_fields(ParamConfig),
    }


class Recorder(dict[str, Any]):
    """A configuration that notes which of its keys are asked for."""

    asked: typing.ClassVar[set[str]] = set()

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def keys(self) -> Any:
        return self


def read_top_keys() -> list[str]:
    """Returns the keys that deepspeed looks up: it knows no list of them, and ignores the others silently."""
    from deepspeed.runtime import config

    config.DeepSpeedConfig(Recorder(train_batch_size=1))
    return sorted(Recorder.asked - set(config._REMOVED_TOP_LEVEL_CONFIG_KEYS))


def model_fields(model: Any) -> dict[str, Any]:
    """Returns the fields of a pydantic model under the names that its JSON has; deprecated ones are left out."""
    return {
        field.alias or name: {
            **describe(field.annotation, field.annotation),
            "default": plain(field.get_default(call_default_factory=True)),
        }
        for name, field in model.model_fields.items()
        if not (field.json_schema_extra or {}).get("deprecated")
    }


def extract_templates() -> dict[str, list[str]]:
    """Returns the chat templates that trl ships: which have a marked twin for training, and which need none."""
    import trl
    from trl.chat_template_utils import has_generation_markers

    texts = {
        p.stem: p.read_text(encoding="utf-8") for p in (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")
    }
    families = sorted(name for name in texts if not name.endswith("_training"))
    return {
        "families": families,
        "training": [name for name in families if f"{name}_training" in texts],
        "marked": [name for name in families if has_generation_markers(texts[name])],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
