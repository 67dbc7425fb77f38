"""Where every file of a run lies below its results folder: the one place that knows.

A pattern's fields are what there is one file each for: a ``method`` (extractor), a ``layer``, a pair of ``source`` and
``target``, a ``shard``, a ``topic`` of the evaluation, a ``figure``.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path

FILES: dict[str, str] = {
    # the images and the model
    "drawn": "menagerie/images",
    "checkpoint": "menagerie/model.safetensors",
    "layers": "layers.parquet",
    "classes": "classes.parquet",
    "manifest": "manifest/{shard}.parquet",
    "unreadable": "manifest/{shard}.rejected.parquet",
    "selection": "selection.parquet",
    "rejected": "rejected.parquet",
    "pfvs": "pfvs/{layer}/{shard}.parquet",
    "predictions": "predictions/{shard}.parquet",
    "images": "images.parquet",
    # concepts
    "kernels": "kernels.parquet",
    "centre": "centres/{layer}.parquet",
    "concepts": "{method}/concepts/{layer}.parquet",
    "tree": "{method}/concepts/{layer}.tree.parquet",
    "encoder": "{method}/concepts/{layer}.encoder.parquet",
    "calibration": "{method}/calibration/{layer}.parquet",
    "coefficients": "{method}/coefficients/{layer}/{shard}.parquet",
    # attribution
    "attributions": "{method}/attributions/{source}--{target}/{shard}.parquet",
    "kept": "{method}/kept/{layer}.parquet",
    "ablations": "{method}/ablations/{source}--{target}.parquet",
    "nodes": "{method}/graph/nodes.parquet",
    "edges": "{method}/graph/edges.parquet",
    "kept_of_all": "{method}/graph/kept.parquet",
    "graphml": "{method}/graph/graph.graphml",
    # how far it can be trusted
    "reconstruction": "{method}/evaluation/reconstruction.parquet",
    "alignment": "{method}/evaluation/alignment.parquet",
    "figure": "{method}/figures/{figure}.svg",
    "heldout": "evaluation/heldout.parquet",
    "measures": "{method}/evaluation/layers/{layer}.measures.parquet",
    "curves": "{method}/evaluation/layers/{layer}.curves.parquet",
    "stability": "{method}/evaluation/layers/{layer}.stability.parquet",
    "stability_measures": "{method}/evaluation/layers/{layer}.stability.measures.parquet",
    "checks": "{method}/evaluation/checks.parquet",
    "checks_measures": "{method}/evaluation/checks.measures.parquet",
    "effects": "evaluation/effects.parquet",
    "truth": "{method}/evaluation/truth.parquet",
    "topic": "evaluation/{topic}.parquet",
    "stability_of_all": "{method}/evaluation/stability.parquet",
    "summary": "evaluation/summary.md",
    "evaluation_figure": "figures/{figure}.svg",
    # what people see
    "exemplars": "{method}/exemplars/{layer}/exemplars.parquet",
    "localisation": "{method}/exemplars/{layer}/localisation.parquet",
    "sheets": "{method}/exemplars/{layer}/sheets",
    "explorer": "explorer/index.html",
    "evidence": "evaluation/evidence.js",
    # beside the tables
    "explained": "{method}/explained",
    "plan": "plan.json",
    "run": "run.json",
    "logs": "logs",
}


def fields(name: str) -> list[str]:
    """Return the fields of a file's pattern, in their order."""
    return [field for _, field, _, _ in string.Formatter().parse(FILES[name]) if field]


class Results:
    """The files of one run.

    Parameters
    ----------
    root : path
        The results folder, the configuration's `output`.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def __call__(self, name: str, **of: object) -> Path:
        """Return where a file lies, such as ``results("centre", layer="layer3.1")``."""
        return self.root / FILES[name].format(**of)

    def shards(self, name: str, shards: Iterable[int], **of: object) -> list[Path]:
        """Return where all shards of a table lie."""
        return [self(name, shard=shard, **of) for shard in shards]
