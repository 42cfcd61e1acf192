"""The recipe as the user wrote it: shape only. Meaning lives in `ftc.rules`."""

from ftc.recipe.load import apply_overrides, load_recipe
from ftc.recipe.tables import (
    AdapterTable,
    CheckpointTable,
    DataTable,
    MethodTable,
    ModelTable,
    OutputTable,
    PlanTable,
    QuantizationTable,
    Recipe,
    SourceTable,
    TrackTable,
    TrainTable,
)

__all__ = [
    "AdapterTable",
    "CheckpointTable",
    "DataTable",
    "MethodTable",
    "ModelTable",
    "OutputTable",
    "PlanTable",
    "QuantizationTable",
    "Recipe",
    "SourceTable",
    "TrackTable",
    "TrainTable",
    "apply_overrides",
    "load_recipe",
]
