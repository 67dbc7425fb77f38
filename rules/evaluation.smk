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
        calibrations=expand(
            results("{{method}}/calibration/{layer}.parquet"), layer=LAYERS
        ),
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
            labels={"method": "{method}", "figure": "GIG beside exact ablation"},
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
