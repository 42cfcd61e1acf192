"""ftc: a compiler for LLM fine-tuning."""

import os

__version__ = "0.1.0"

# A plugin of pydantic's that happens to be installed must not change what a recipe means, nor slow the start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
