"""gigraph: from a trained classifier and a folder of images to a dataset-wide graph of concepts."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


# Beside this file, so that a run in another folder (--directory) starts from the same defaults.
configfile: Path(workflow.basedir) / "config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/concepts.smk"
include: "rules/attribution.smk"
include: "rules/evaluation.smk"
include: "rules/explorer.smk"


rule all:
    default_target: True
    input:
        results("explorer/index.html"),
        results("images.parquet"),
        results("rejected.parquet"),
        results("layers.parquet"),
        results("kernels.parquet"),
        [
            path
            for layer in LAYERS
            for path in sharded(f"pfvs/{layer}/{{shard}}.parquet")
        ],
        expand(results("{method}/graph/graph.graphml"), method=METHODS),
        expand(results("{method}/evaluation/fidelity.parquet"), method=METHODS),
        expand(
            results("{method}/evaluation/alignment.parquet"),
            method=METHODS if PLAN.drawn else [],
        ),
        expand(results("{method}/figures/{figure}.svg"), method=METHODS, figure=FIGURES),
