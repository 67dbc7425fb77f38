"""How far the graph can be trusted: fidelity, completeness, ablation, and the drawn world's ground truth."""


rule fidelity:
    input:
        due("fidelity"),
        concepts=expand(results("{{method}}/concepts/{layer}.parquet"), layer=LAYERS),
        coefficients=[
            path
            for layer in LAYERS
            for path in sharded(f"{{method}}/coefficients/{layer}/{{shard}}.parquet")
        ],
    output:
        results("{method}/evaluation/fidelity.parquet"),
    log:
        results("logs/{method}/fidelity.log"),
    benchmark:
        results("benchmarks/{method}/fidelity.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("fidelity"),
    params:
        settings=settings("fidelity"),
        lineage=lineage("fidelity"),
        folder=lambda wildcards: results(wildcards.method),
    message:
        "Measure how well the concepts reconstruct ({wildcards.method}, Table 1)"
    shell:
        "python $GIGRAPH_SCRIPTS/fidelity.py --folder {params.folder} --fidelity {output}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule alignment:
    input:
        due("alignment"),
        layers=results("layers.parquet"),
        centres=expand(results("centres/{layer}.parquet"), layer=LAYERS),
        concepts=expand(results("{{method}}/concepts/{layer}.parquet"), layer=LAYERS),
        pfvs=[
            path
            for layer in LAYERS
            for path in sharded(f"pfvs/{layer}/{{shard}}.parquet")
        ],
    output:
        results("{method}/evaluation/alignment.parquet"),
    log:
        results("logs/{method}/alignment.log"),
    benchmark:
        results("benchmarks/{method}/alignment.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("alignment"),
    params:
        settings=settings("alignment"),
        lineage=lineage("alignment"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Compare the concepts with the drawn parts ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/alignment.py --root {params.root} --alignment {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule figures:
    input:
        due("figures"),
        fidelity=results("{method}/evaluation/fidelity.parquet"),
        edges=results("{method}/graph/edges.parquet"),
        attributions=[
            path
            for a, b in PLAN.pairs
            for path in sharded(f"{{method}}/attributions/{a}--{b}/{{shard}}.parquet")
        ],
    output:
        report(
            results("{method}/figures/fidelity.svg"),
            caption="../workflow/report/fidelity.rst",
            category="Reconstruction",
            labels={"method": "{method}", "figure": "Error and sparsity per layer"},
        ),
        report(
            results("{method}/figures/completeness.svg"),
            caption="../workflow/report/completeness.rst",
            category="Attribution",
            labels={"method": "{method}", "figure": "Completeness error"},
        ),
        report(
            results("{method}/figures/ablation.svg"),
            caption="../workflow/report/ablation.rst",
            category="Attribution",
            labels={"method": "{method}", "figure": "Edges beside exact ablation"},
        ),
    log:
        results("logs/{method}/figures.log"),
    benchmark:
        results("benchmarks/{method}/figures.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("figures"),
    params:
        settings=settings("figures"),
        lineage=lineage("figures"),
        folder=lambda wildcards: results(wildcards.method),
    message:
        "Draw the figures ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/figures.py --folder {params.folder} --settings {params.settings:q} --lineage {params.lineage}"
        " --log {log}"


# ---- the target `evaluation`: everything below, for all of `evaluation.methods` ------------------------------

TOPICS = [
    "reconstruction",
    "sensitivity",
    "classes",
    "interlayer",
    "curves",
    "stability",
    "edges",
    *(["truth"] if PLAN.drawn else []),
]
EVALUATION_FIGURES = {
    "reconstruction": "Reconstruction per layer and method (Table 1)",
    "extraction": "Concepts deleted and inserted by relevance to the class (Fig. 4, Table 2)",
    "interlayer": "Concepts deleted and inserted between layers (Fig. 5)",
    "edges": "Edges beside exact ablation, and what attributions are made of",
    "stability": "Concepts found again",
    "sensitivity": "Other penalties lambda",
    **({"truth": "The drawn world's truth"} if PLAN.drawn else {}),
}
# What `gigraph.vocabulary.Vocabulary` reads, of all layers.
VOCABULARIES = [
    path
    for layer in LAYERS
    for path in (
        results(f"centres/{layer}.parquet"),
        results(f"{{method}}/concepts/{layer}.parquet"),
        results(f"{{method}}/concepts/{layer}.encoder.parquet"),
        results(f"{{method}}/calibration/{layer}.parquet"),
    )
]


rule heldout:
    input:
        due("heldout"),
        manifests=sharded("manifest/{shard}.parquet"),
        predictions=sharded("predictions/{shard}.parquet") if PLAN.unlabelled else [],
    output:
        results("evaluation/heldout.parquet"),
    log:
        results("logs/heldout.log"),
    benchmark:
        results("benchmarks/heldout.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("heldout"),
    params:
        settings=settings("heldout"),
        lineage=lineage("heldout"),
    message:
        "Choose the held-out images that the evaluation looks at"
    shell:
        "python $GIGRAPH_SCRIPTS/heldout.py --manifests {input.manifests} --predictions {input.predictions}"
        " --heldout {output} --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule validation:
    input:
        due("validation"),
        heldout=results("evaluation/heldout.parquet"),
        pfvs=unless_current(PFVS, "validation"),
        vocabularies=lambda wildcards: [
            path
            for layer in [wildcards.layer, *PLAN.pairs_from(wildcards.layer)]
            if layer != CLASSES
            for path in (
                results(f"centres/{layer}.parquet"),
                results(f"{wildcards.method}/concepts/{layer}.parquet"),
                results(f"{wildcards.method}/concepts/{layer}.encoder.parquet"),
                results(f"{wildcards.method}/calibration/{layer}.parquet"),
            )
        ],
    output:
        measures=results("{method}/evaluation/layers/{layer}.measures.parquet"),
        curves=results("{method}/evaluation/layers/{layer}.curves.parquet"),
    log:
        results("logs/{method}/validation/{layer}.log"),
    benchmark:
        results("benchmarks/{method}/validation/{layer}.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("validation"),
    params:
        settings=settings("validation"),
        lineage=lineage("validation"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Validate {wildcards.layer} on held-out images ({wildcards.method}, Tables 1 and 2, Figs. 4 and 5)"
    shell:
        "python $GIGRAPH_SCRIPTS/validation.py --root {params.root} --heldout {input.heldout}"
        " --measures {output.measures} --curves {output.curves}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule stability:
    input:
        due("stability"),
        centre=results("centres/{layer}.parquet"),
        concepts=results("{method}/concepts/{layer}.parquet"),
        pfvs=unless_current(PFVS, "stability"),
    output:
        stability=results("{method}/evaluation/layers/{layer}.stability.parquet"),
        measures=results(
            "{method}/evaluation/layers/{layer}.stability.measures.parquet"
        ),
    log:
        results("logs/{method}/stability/{layer}.log"),
    benchmark:
        results("benchmarks/{method}/stability/{layer}.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("stability"),
    params:
        settings=settings("stability"),
        lineage=lineage("stability"),
    message:
        "Find the concepts of {wildcards.layer} again ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/stability.py --centre {input.centre} --concepts {input.concepts} --pfvs {input.pfvs}"
        " --stability {output.stability} --measures {output.measures}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule edges:
    input:
        due("edges"),
        selection=results("selection.parquet"),
        edges=results("{method}/graph/edges.parquet"),
        vocabularies=VOCABULARIES,
        attributions=[
            path
            for a, b in PLAN.pairs
            for path in sharded(f"{{method}}/attributions/{a}--{b}/{{shard}}.parquet")
        ],
    output:
        checks=results("{method}/evaluation/checks.parquet"),
        measures=results("{method}/evaluation/edges.parquet"),
    log:
        results("logs/{method}/edges.log"),
    benchmark:
        results("benchmarks/{method}/edges.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("edges"),
    params:
        settings=settings("edges"),
        lineage=lineage("edges"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Check edges by exact ablation, shown and not ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/edges.py --root {params.root} --selection {input.selection}"
        " --checks {output.checks} --measures {output.measures}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule effects:
    input:
        due("effects"),
        results("menagerie/model.safetensors") if PLAN.trained else [],
    output:
        results("evaluation/effects.parquet"),
    log:
        results("logs/effects.log"),
    benchmark:
        results("benchmarks/effects.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("effects"),
    params:
        settings=settings("effects"),
        lineage=lineage("effects"),
    message:
        "Redraw scenes without each part"
    shell:
        "python $GIGRAPH_SCRIPTS/effects.py --effects {output} --settings {params.settings:q} --lineage {params.lineage}"
        " --log {log}"


rule truth:
    input:
        due("truth"),
        effects=results("evaluation/effects.parquet"),
        vocabularies=VOCABULARIES,
    output:
        results("{method}/evaluation/truth.parquet"),
    log:
        results("logs/{method}/truth.log"),
    benchmark:
        results("benchmarks/{method}/truth.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("truth"),
    params:
        settings=settings("truth"),
        lineage=lineage("truth"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Compare the concepts with the drawn world's truth ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/truth.py --root {params.root} --effects {input.effects} --measures {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule evaluation_tables:
    input:
        due("evaluation_tables"),
        expand(
            results("{method}/evaluation/layers/{layer}.{table}.parquet"),
            method=EVALUATED,
            layer=LAYERS,
            table=["measures", "curves", "stability", "stability.measures"],
        ),
        expand(results("{method}/evaluation/edges.parquet"), method=METHODS),
        expand(
            results("{method}/evaluation/truth.parquet"),
            method=EVALUATED if PLAN.drawn else [],
        ),
    output:
        expand(results("evaluation/{topic}.parquet"), topic=TOPICS),
        stability=expand(
            results("{method}/evaluation/stability.parquet"), method=EVALUATED
        ),
        summary=results("evaluation/summary.md"),
    log:
        results("logs/evaluation_tables.log"),
    benchmark:
        results("benchmarks/evaluation_tables.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("evaluation_tables"),
    params:
        settings=settings("evaluation_tables"),
        lineage=lineage("evaluation_tables"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Gather the evaluation's tables"
    shell:
        "python $GIGRAPH_SCRIPTS/evaluation_tables.py --root {params.root} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"


rule evaluation_figures:
    input:
        due("evaluation_figures"),
        expand(results("evaluation/{topic}.parquet"), topic=TOPICS),
        expand(results("{method}/evaluation/stability.parquet"), method=METHODS[0]),
    output:
        [
            report(
                results(f"figures/{figure}.svg"),
                caption=f"../workflow/report/{figure}.rst",
                category="Evaluation",
                labels={"figure": title},
            )
            for figure, title in EVALUATION_FIGURES.items()
        ],
    log:
        results("logs/evaluation_figures.log"),
    benchmark:
        results("benchmarks/evaluation_figures.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("evaluation_figures"),
    params:
        settings=settings("evaluation_figures"),
        lineage=lineage("evaluation_figures"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Draw the evaluation's figures"
    shell:
        "python $GIGRAPH_SCRIPTS/evaluation_figures.py --root {params.root} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"


rule evaluation:
    input:
        results("kernels.parquet"),
        results("evaluation/summary.md"),
        expand(results("evaluation/{topic}.parquet"), topic=TOPICS),
        expand(results("figures/{figure}.svg"), figure=EVALUATION_FIGURES),
        results("evaluation/evidence.js"),
