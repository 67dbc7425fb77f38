"""gigraph: from a trained classifier and a folder of images to a dataset-wide graph of concepts."""

from snakemake.utils import min_version

from gigraph.planning.config import PROJECT

min_version("9.27")


# Beside this file, wherever that lies, so that a run in another folder starts from the same defaults.
configfile: PROJECT / "config.yaml"


include: "rules/common.smk"


# First, so that it is what is made, also where this file is the first that another one imports.
rule all:
    input:
        [
            every(name)
            for name in (
                "explorer",
                "images",
                "rejected",
                "layers",
                "kernels",
                "pfvs",
            )
        ],
        [
            every(name, method=METHODS)
            for name in (
                "graphml",
                "circuits",
                "reconstruction",
                "figure",
                *["alignment"] * PLAN.drawn,
            )
        ],


include: "rules/data.smk"
include: "rules/concepts.smk"
include: "rules/attribution.smk"
include: "rules/evaluation.smk"
include: "rules/explorer.smk"


# The same rules on the network with its weights shuffled, which the target `evaluation` is held against.
if PLAN.control is not None:

    module control:
        snakefile:
            "Snakefile"
        config:
            PLAN.control.config.model_dump(mode="json")

    use rule * from control as control_*
