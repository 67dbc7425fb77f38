"""Every stage, declared once: one module for each file of ``rules/``."""

from gigraph.planning.stages import attribution, concepts, data, evaluation, explorer
from gigraph.planning.stages.stage import STAGES, Read, Stage

__all__ = ["STAGES", "Read", "Stage", "attribution", "concepts", "data", "evaluation", "explorer"]
