"""Where every file of a run lies below its results folder: the one place that knows.

A pattern's fields are what there is one file each for: a ``method`` (extractor), a ``layer``, a pair of ``source`` and
``target``, a ``shard``, a ``topic`` of the evaluation, a ``figure`` of a method, a ``picture`` of the evaluation, a
``network`` that extractors are compared on.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path


class File:
    """A kind of file.

    Parameters
    ----------
    pattern : str
        Its path below the results folder.
    *kinds : str
        The schemas of what it holds, if it is a table (keys of `gigraph.records.schemas.SCHEMAS`).
    """

    def __init__(self, pattern: str, *kinds: str):
        self.pattern, self.kinds = pattern, kinds
        self.fields = [field for _, field, _, _ in string.Formatter().parse(pattern) if field]
        self.expression = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(pattern)))


FILES: dict[str, File] = {
    # the images and the model
    "drawn": File("drawn/images"),
    "checkpoint": File("drawn/model.safetensors"),
    "layers": File("layers.parquet", "layers"),
    "classes": File("classes.parquet", "classes"),
    "manifest": File("manifest/{shard}.parquet", "manifest"),
    "unreadable": File("manifest/{shard}.rejected.parquet", "rejected"),
    "selection": File("selection.parquet", "selection"),
    "rejected": File("rejected.parquet", "rejected"),
    "pfvs": File("pfvs/{layer}/{shard}.parquet", "pfvs"),
    "uniform": File("uniform/{layer}.parquet", "uniform"),
    "predictions": File("predictions/{shard}.parquet", "predictions"),
    "images": File("images.parquet", "images"),
    # concepts
    "kernels": File("kernels.parquet", "kernels"),
    "centre": File("centres/{layer}.parquet", "centre"),
    "concepts": File("{method}/concepts/{layer}.parquet", "concepts"),
    "tree": File("{method}/concepts/{layer}.tree.parquet", "tree"),
    "encoder": File("{method}/concepts/{layer}.encoder.parquet", "encoder"),
    "families": File("{method}/concepts/{layer}.families.parquet", "families"),
    "trials": File("{method}/calibration/{layer}.trials.parquet", "trials"),
    "calibration": File("{method}/calibration/{layer}.parquet", "calibration"),
    "coefficients": File("{method}/coefficients/{layer}/{shard}.parquet", "coefficients"),
    "decisions": File("{method}/decisions/{layer}/{shard}.parquet", "decisions"),
    # attribution
    "attributions": File("{method}/attributions/{source}--{target}/{shard}.parquet", "attributions"),
    "kept": File("{method}/kept/{layer}.parquet", "kept"),
    "ablations": File("{method}/ablations/{source}--{target}.parquet", "ablation"),
    "nodes": File("{method}/graph/nodes.parquet", "nodes"),
    "edges": File("{method}/graph/edges.parquet", "edges"),
    "members": File("{method}/graph/members.parquet", "members"),
    "kept_of_all": File("{method}/graph/kept.parquet", "kept"),
    "graphml": File("{method}/graph/graph.graphml"),
    # circuits: a shard of the classes each
    "circuits": File("{method}/circuits/{shard}.parquet", "circuits"),
    "circuit_curves": File("{method}/circuits/{shard}.curves.parquet", "circuit_curves"),
    "circuit_members": File("{method}/circuits/{shard}.members.parquet", "circuit_members"),
    # how far it can be trusted
    "reconstruction": File("{method}/evaluation/reconstruction.parquet", "reconstruction"),
    "alignment": File("{method}/evaluation/alignment.parquet", "alignment"),
    "figure": File("{method}/figures/{figure}.svg"),
    "heldout": File("evaluation/heldout.parquet", "selection"),
    "measures": File("{method}/evaluation/layers/{layer}.measures.parquet", "measures"),
    "curves": File("{method}/evaluation/layers/{layer}.curves.parquet", "curves"),
    "stability": File("{method}/evaluation/layers/{layer}.stability.parquet", "stability"),
    "stability_measures": File("{method}/evaluation/layers/{layer}.stability.measures.parquet", "measures"),
    "checks": File("{method}/evaluation/checks.parquet", "checks"),
    "checks_measures": File("{method}/evaluation/checks.measures.parquet", "measures"),
    "probes": File("evaluation/probes/{network}/{layer}.parquet", "probes"),
    "maps": File("evaluation/probes/{network}/{layer}.maps.parquet", "maps"),
    "pairs": File("evaluation/probes/{network}/{layer}.pairs.parquet", "pairs"),
    "comparison": File("{method}/evaluation/layers/{layer}.comparison.parquet", "comparison"),
    "effects": File("evaluation/effects.parquet", "effects"),
    "truth": File("{method}/evaluation/truth.parquet", "measures"),
    "topic": File("evaluation/{topic}.parquet", "measures", "curves", "comparison", "sanity"),
    "stability_of_all": File("evaluation/found_again.parquet", "stability"),
    "summary": File("evaluation/summary.md"),
    "evaluation_figure": File("figures/{picture}.svg"),
    # what people see
    "exemplars": File("{method}/exemplars/{layer}/exemplars.parquet", "exemplars"),
    "localisation": File("{method}/exemplars/{layer}/localisation.parquet", "localisation"),
    "sheets": File("{method}/exemplars/{layer}/sheets"),
    "explorer": File("explorer/index.html"),
    "evidence": File("evaluation/evidence.js"),
    # beside the tables
    "explained": File("{method}/explained"),
    "plan": File("plan.json"),
    "asked": File("asked.json"),
    "run": File("run.json"),
    "logs": File("logs"),
}


SHOWN = "evaluation.json"
"""In the explorer's folder ``data``: the lineage of the evaluation that it shows."""
CONTROL = "shuffled"
"""Below a run's folder: the same run on the network with its weights shuffled, which the evaluation is held against."""
NETWORKS = ("trained", "shuffled")
"""Networks that extractors are compared on: the run's, and the same with its weights shuffled."""
TOPICS = (
    "reconstruction", "sensitivity", "classes", "interlayer", "curves", "stability", "edges", "comparison", "sanity",
)  # fmt: skip
"""The evaluation's topics; on the drawn world there is ``truth``, too."""


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
        return self.root / FILES[name].pattern.format(**of)

    def identify(self, path: str | Path) -> list[tuple[str, dict[str, str]]]:
        """Return which tables a file may be, their keys and fields; none if it is none of a run.

        There may be several: ``vit.encoder.parquet`` holds the concepts of a layer ``vit.encoder`` or the encoder of a
        layer ``vit``. Which, a run's layers say.
        """
        relative = Path(path).relative_to(self.root).as_posix()
        # A pattern without a field, or with a longer suffix, says more than another that fits as well.
        order = sorted(FILES, key=lambda name: (len(FILES[name].fields), -len(FILES[name].pattern)))
        fits = ((name, FILES[name].expression.fullmatch(relative)) for name in order if FILES[name].kinds)
        return [(name, found.groupdict()) for name, found in fits if found]

    def shards(self, name: str, shards: Iterable[int], **of: object) -> list[Path]:
        """Return where all shards of a table lie."""
        return [self(name, shard=shard, **of) for shard in shards]
