"""The pictures of the concepts, and the explorer."""


rule exemplars:
    input:
        needs("exemplars"),
    output:
        exemplars=made("exemplars"),
        localisation=made("localisation"),
        sheets=directory(made("sheets")),
    log:
        results("logs/{method}/exemplars/{layer}.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("exemplars"),
    params:
        root=root,
        settings=settings("exemplars"),
        lineage=lineage("exemplars"),
    message:
        "Picture the concepts of {wildcards.layer} ({wildcards.method}, iERFs by Eq. 10)"
    shell:
        "python $GIGRAPH_SCRIPTS/exemplars.py --root {params.root} --method {wildcards.method}"
        " --selection {input.selection} --manifests {input.manifests} --uniform {input.uniform}"
        " --centre {input.centre} --concepts {input.concepts} --families {input.families} --kept {input.kept}"
        " --pfvs {input.pfvs}"
        " --coefficients {input.coefficients} --attributions {input.attributions}"
        " --exemplars {output.exemplars} --localisation {output.localisation} --sheets {output.sheets}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule explorer:
    input:
        needs("explorer"),
    output:
        made("explorer"),
    log:
        results("logs/explorer.log"),
    conda:
        "../envs/gigraph.yaml"
    threads: 2
    resources:
        **claims("explorer"),
    params:
        root=root,
        settings=settings("explorer"),
        lineage=lineage("explorer"),
        evaluated=evaluated,
    message:
        "Build the explorer"
    shell:
        "python $GIGRAPH_SCRIPTS/explorer.py --root {params.root} --index {output} --evaluated {params.evaluated}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule evidence:
    input:
        needs("evidence"),
    output:
        made("evidence"),
    log:
        results("logs/evidence.log"),
    conda:
        "../envs/gigraph.yaml"
    threads: 2
    resources:
        **claims("evidence"),
    params:
        root=root,
        settings=settings("evidence"),
        lineage=lineage("evidence"),
        site=lineage("explorer"),
        evaluated=evaluated,
    message:
        "Show the evaluation in the explorer"
    shell:
        "python $GIGRAPH_SCRIPTS/evidence.py --root {params.root} --index {input.index} --evidence {output}"
        " --site {params.site} --evaluated {params.evaluated} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"
