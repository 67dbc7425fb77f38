"""Attribution between layers (generalized integrated gradients), its check by ablation, and the graph."""


rule attribution:
    input:
        due("attribution"),
        targets=attribution_targets,
        selection=results("selection.parquet"),
        centre=results("centres/{source}.parquet"),
        concepts=results("{method}/concepts/{source}.parquet"),
        encoder=results("{method}/concepts/{source}.encoder.parquet"),
        coefficients=results("{method}/coefficients/{source}/{shard}.parquet"),
    output:
        results("{method}/attributions/{source}--{target}/{shard}.parquet"),
    log:
        results("logs/{method}/attribution/{source}--{target}/{shard}.log"),
    benchmark:
        results("benchmarks/{method}/attribution/{source}--{target}/{shard}.tsv")
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("attribution"),
    params:
        settings=settings("attribution"),
        lineage=lineage("attribution"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Attribute {wildcards.source} -> {wildcards.target}, shard {wildcards.shard} ({wildcards.method}, Eqs. 3 to 7)"
    shell:
        "python $GIGRAPH_SCRIPTS/attribution.py --root {params.root} --selection {input.selection}"
        " --coefficients {input.coefficients} --targets {input.targets} --attributions {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule kept:
    input:
        due("kept"),
        selection=results("selection.parquet"),
        attributions=sharded(
            f"{{method}}/attributions/{{layer}}--{CLASSES}/{{shard}}.parquet"
        ),
    output:
        results("{method}/kept/{layer}.parquet"),
    log:
        results("logs/{method}/kept/{layer}.log"),
    benchmark:
        results("benchmarks/{method}/kept/{layer}.tsv")
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("kept"),
    params:
        settings=settings("kept"),
        lineage=lineage("kept"),
    message:
        "Rank the concepts of {wildcards.layer} by class ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/kept.py --selection {input.selection} --attributions {input.attributions} --kept {output}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule ablation:
    input:
        due("ablation"),
        selection=results("selection.parquet"),
        centre=results("centres/{source}.parquet"),
        concepts=results("{method}/concepts/{source}.parquet"),
        encoder=results("{method}/concepts/{source}.encoder.parquet"),
        kept=results("{method}/kept/{source}.parquet"),
        coefficients=sharded("{method}/coefficients/{source}/{shard}.parquet"),
        attributions=sharded("{method}/attributions/{source}--{target}/{shard}.parquet"),
        targets=lambda wildcards: (
            []
            if wildcards.target == CLASSES
            else [
                results(f"{wildcards.method}/concepts/{wildcards.target}.parquet"),
                results(f"{wildcards.method}/kept/{wildcards.target}.parquet"),
            ]
        ),
    output:
        results("{method}/ablations/{source}--{target}.parquet"),
    log:
        results("logs/{method}/ablation/{source}--{target}.log"),
    benchmark:
        results("benchmarks/{method}/ablation/{source}--{target}.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("ablation"),
    params:
        settings=settings("ablation"),
        lineage=lineage("ablation"),
        root=lambda wildcards: str(PLAN.root),
    message:
        "Check {wildcards.source} -> {wildcards.target} by exact ablation ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/ablation.py --root {params.root} --selection {input.selection} --kept {input.kept}"
        " --coefficients {input.coefficients} --attributions {input.attributions} --targets {input.targets}"
        " --ablation {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule graph:
    input:
        due("graph"),
        selection=results("selection.parquet"),
        classes=results("classes.parquet"),
        concepts=expand(results("{{method}}/concepts/{layer}.parquet"), layer=LAYERS),
        kept=expand(results("{{method}}/kept/{layer}.parquet"), layer=LAYERS),
        ablations=[
            results(f"{{method}}/ablations/{a}--{b}.parquet") for a, b in PLAN.pairs
        ],
        attributions=[
            path
            for a, b in PLAN.pairs
            for path in sharded(f"{{method}}/attributions/{a}--{b}/{{shard}}.parquet")
        ],
    output:
        nodes=results("{method}/graph/nodes.parquet"),
        edges=results("{method}/graph/edges.parquet"),
        kept=results("{method}/graph/kept.parquet"),
        graphml=results("{method}/graph/graph.graphml"),
    log:
        results("logs/{method}/graph.log"),
    benchmark:
        results("benchmarks/{method}/graph.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("graph"),
    params:
        settings=settings("graph"),
        lineage=lineage("graph"),
        folder=lambda wildcards: results(wildcards.method),
    message:
        "Assemble the graph ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/graph.py --selection {input.selection} --class_table {input.classes}"
        " --folder {params.folder} --nodes {output.nodes} --edges {output.edges} --kept {output.kept}"
        " --graphml {output.graphml} --settings {params.settings:q} --lineage {params.lineage} --log {log}"
