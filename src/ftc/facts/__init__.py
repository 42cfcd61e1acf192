"""Facts as data: models, GPUs, stacks, defaults; and the frozen values that carry them."""

from ftc.facts.bundle import DataFacts, Facts, LocalModel, RowFacts
from ftc.facts.constants import Constants, load_constants
from ftc.facts.defaults import Default, load_defaults
from ftc.facts.gpus import GpuFacts, Target, gpu_names, load_gpus, parse_target
from ftc.facts.models import ModelFacts, ModuleFacts, find_alias, load_catalog, matches_target, model_names
from ftc.facts.stacks import ApiClass, ApiField, StackFacts, load_class, load_stack, stack_names
from ftc.facts.words import Marks, column_name, known_columns, load_words, template_marks

__all__ = [
    "ApiClass",
    "ApiField",
    "Constants",
    "DataFacts",
    "Default",
    "Facts",
    "GpuFacts",
    "LocalModel",
    "Marks",
    "ModelFacts",
    "ModuleFacts",
    "RowFacts",
    "StackFacts",
    "Target",
    "column_name",
    "find_alias",
    "gpu_names",
    "known_columns",
    "load_catalog",
    "load_class",
    "load_constants",
    "load_defaults",
    "load_gpus",
    "load_stack",
    "load_words",
    "matches_target",
    "model_names",
    "parse_target",
    "stack_names",
    "template_marks",
]
