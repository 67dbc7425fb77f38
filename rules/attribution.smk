"""Attribution between layers (generalized integrated gradients), its check by ablation, and the graph."""


rule attribution:
    input:
        needs("attribution"),
    output:
        made("attributions"),
    log:
        results("logs/{method}/attribution/{source}--{target}/{shard}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("attribution"),
    params:
        root=root,
        settings=settings("attribution"),
        lineage=lineage("attribution"),
    message:
        "Attribute {wildcards.source} -> {wildcards.target}, shard {wildcards.shard} ({wildcards.method}, Eqs. 3 to 7)"
    shell:
        "python $GIGRAPH_SCRIPTS/attribution.py --root {params.root} --method {wildcards.method}"
        " --selection {input.selection} --coefficients {input.coefficients} --targets {input.targets}"
        " --attributions {output} --settings {params.settings:q} --lineage {params.lineage}"
        ' --compute "$GIGRAPH_COMPUTE" --log {log}'


rule kept:
    input:
        needs("kept"),
    output:
        made("kept"),
    log:
        results("logs/{method}/kept/{layer}.log"),
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
        needs("ablation"),
    output:
        made("ablations"),
    log:
        results("logs/{method}/ablation/{source}--{target}.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("ablation"),
    params:
        root=root,
        settings=settings("ablation"),
        lineage=lineage("ablation"),
    message:
        "Check {wildcards.source} -> {wildcards.target} by exact ablation ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/ablation.py --root {params.root} --method {wildcards.method}"
        " --selection {input.selection} --kept {input.kept} --coefficients {input.coefficients}"
        " --targets {input.targets} --ablation {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule circuits:
    input:
        needs("circuits"),
    output:
        circuits=made("circuits"),
        curves=made("circuit_curves"),
        members=made("circuit_members"),
    log:
        results("logs/{method}/circuits/{shard}.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("circuits"),
    params:
        root=root,
        settings=settings("circuits"),
        lineage=lineage("circuits"),
    message:
        "Run the network on circuits, shard {wildcards.shard} of the classes ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/circuits.py --root {params.root} --method {wildcards.method} --shard {wildcards.shard}"
        " --selection {input.selection} --classes {input.classes} --circuits {output.circuits} --curves {output.curves} --members {output.members}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule graph:
    input:
        needs("graph"),
    output:
        nodes=made("nodes"),
        edges=made("edges"),
        members=made("members"),
        kept=made("kept_of_all"),
        graphml=made("graphml"),
    log:
        results("logs/{method}/graph.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("graph"),
    params:
        root=root,
        settings=settings("graph"),
        lineage=lineage("graph"),
    message:
        "Assemble the graph ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/graph.py --selection {input.selection} --class_table {input.classes}"
        " --root {params.root} --method {wildcards.method} --nodes {output.nodes} --edges {output.edges}"
        " --members {output.members} --kept {output.kept} --graphml {output.graphml} --settings {params.settings:q} --lineage {params.lineage} --log {log}"
