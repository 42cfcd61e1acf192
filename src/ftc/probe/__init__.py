"""Reads what stands beside a recipe (data files, model folders) into facts. The only reader besides the pipeline's."""

from ftc.probe.data import probe_files
from ftc.probe.model import probe_model

__all__ = ["probe_files", "probe_model"]
