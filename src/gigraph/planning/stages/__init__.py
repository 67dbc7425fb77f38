"""Every stage, declared once: one module for each file of ``rules/``, in the order of the workflow."""

from gigraph.planning.stages import data  # isort: skip
from gigraph.planning.stages import concepts  # isort: skip
from gigraph.planning.stages import attribution  # isort: skip
from gigraph.planning.stages import evaluation  # isort: skip
from gigraph.planning.stages import explorer  # isort: skip
from gigraph.planning.stages.stage import STAGES, Read, Stage

__all__ = ["STAGES", "Read", "Stage", "attribution", "concepts", "data", "evaluation", "explorer"]
