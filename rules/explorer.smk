"""The pictures of the concepts, and the explorer."""


rule exemplars:
    input:
        due("exemplars"),
        selection=results("selection.parquet"),
        manifests=sharded("manifest/{shard}.parquet"),
        centre=results("centres/{layer}.parquet"),
        concepts=results("{method}/concepts/{layer}.parquet"),
        kept=results("{method}/kept/{layer}.parquet"),
        pfvs=unless_current(PFVS, "exemplars"),
        coefficients=sharded("{method}/coefficients/{layer}/{shard}.parquet"),
        attributions=sharded(
            f"{{method}}/attributions/{{layer}}--{CLASSES}/{{shard}}.parquet"
        ),
    output:
        exemplars=results("{method}/exemplars/{layer}/exemplars.parquet"),
        localisation=results("{method}/exemplars/{layer}/localisation.parquet"),
        sheets=directory(PLAN.root / "{method}" / "exemplars" / "{layer}" / "sheets"),
    log:
        results("logs/{method}/exemplars/{layer}.log"),
    benchmark:
        results("benchmarks/{method}/exemplars/{layer}.tsv")
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("exemplars"),
    params:
        settings=settings("exemplars"),
        lineage=lineage("exemplars"),
    message:
        "Picture the concepts of {wildcards.layer} ({wildcards.method}, iERFs by Eq. 10)"
    shell:
        "python $GIGRAPH_SCRIPTS/exemplars.py --selection {input.selection} --manifests {input.manifests}"
        " --centre {input.centre} --concepts {input.concepts} --kept {input.kept} --pfvs {input.pfvs}"
        " --coefficients {input.coefficients} --attributions {input.attributions}"
        " --exemplars {output.exemplars} --localisation {output.localisation} --sheets {output.sheets}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule explorer:
    input:
        due("explorer"),
        results("images.parquet"),
        results("classes.parquet"),
        results("layers.parquet"),
        results("rejected.parquet"),
        results("selection.parquet"),
        results(f"{METHODS[0]}/graph/nodes.parquet"),
        results(f"{METHODS[0]}/graph/edges.parquet"),
        results(f"{METHODS[0]}/graph/kept.parquet"),
        results(f"{METHODS[0]}/evaluation/fidelity.parquet"),
        results(f"{METHODS[0]}/evaluation/alignment.parquet") if PLAN.drawn else [],
        expand(
            results(f"{METHODS[0]}/exemplars/{{layer}}/exemplars.parquet"),
            layer=LAYERS,
        ),
        [
            results(f"{METHODS[0]}/attributions/{source}--{target}/{shard}.parquet")
            for source, target in PLAN.pairs
            for shard in SHARDS
        ],
        expand(
            results(f"{METHODS[0]}/coefficients/{{layer}}/{{shard}}.parquet"),
            layer=LAYERS,
            shard=SHARDS,
        ),
    output:
        results("explorer/index.html"),
    log:
        results("logs/explorer.log"),
    benchmark:
        results("benchmarks/explorer.tsv")
    conda:
        "../envs/gigraph.yaml"
    threads: 2
    resources:
        **claims("explorer"),
    params:
        settings=settings("explorer"),
        lineage=lineage("explorer"),
        evaluated=evaluated,
        root=lambda wildcards: str(PLAN.root),
    message:
        "Build the explorer"
    shell:
        "python $GIGRAPH_SCRIPTS/explorer.py --root {params.root} --index {output} --evaluated {params.evaluated}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule evidence:
    input:
        due("evidence"),
        index=results("explorer/index.html"),
        tables=expand(results("evaluation/{topic}.parquet"), topic=TOPICS),
        stability=results(f"{METHODS[0]}/evaluation/stability.parquet"),
    output:
        results("evaluation/evidence.js"),
    log:
        results("logs/evidence.log"),
    benchmark:
        results("benchmarks/evidence.tsv")
    conda:
        "../envs/gigraph.yaml"
    threads: 2
    resources:
        **claims("evidence"),
    params:
        settings=settings("evidence"),
        lineage=lineage("evidence"),
        site=lineage("explorer"),
        evaluated=evaluated,
        root=lambda wildcards: str(PLAN.root),
    message:
        "Show the evaluation in the explorer"
    shell:
        "python $GIGRAPH_SCRIPTS/evidence.py --root {params.root} --index {input.index} --evidence {output}"
        " --site {params.site} --evaluated {params.evaluated} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"
