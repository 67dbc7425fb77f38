"""Concept vectors, and the coefficients of PFVs in them."""


# No job's input: it runs while the images are drawn and sampled, and nothing waits for it.
rule kernels:
    input:
        needs("kernels"),
    output:
        made("kernels"),
    log:
        results("logs/kernels.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("kernels"),
    params:
        settings=settings("kernels"),
        lineage=lineage("kernels"),
    message:
        "Compile the kernels of the clustering and the coding"
    shell:
        "python $GIGRAPH_SCRIPTS/kernels.py --kernels {output} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"


rule centre:
    input:
        needs("centre"),
    output:
        made("centre"),
    log:
        results("logs/centre/{layer}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("centre"),
    params:
        settings=settings("centre"),
        lineage=lineage("centre"),
    message:
        "Centre {wildcards.layer} (Eq. 8)"
    shell:
        "python $GIGRAPH_SCRIPTS/centre.py --layers {input.layers} --pfvs {input.pfvs} --centre {output}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule concepts:
    input:
        needs("concepts"),
    output:
        concepts=made("concepts"),
        tree=made("tree"),
        encoder=made("encoder"),
    log:
        results("logs/{method}/concepts/{layer}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("concepts"),
    params:
        settings=settings("concepts"),
        lineage=lineage("concepts"),
    message:
        "Find the concepts of {wildcards.layer} ({wildcards.method}, App. B)"
    shell:
        "python $GIGRAPH_SCRIPTS/concepts.py --centre {input.centre} --pfvs {input.pfvs} --uniform {input.uniform}"
        " --concepts {output.concepts} --tree {output.tree} --encoder {output.encoder}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule families:
    input:
        needs("families"),
    output:
        made("families"),
    log:
        results("logs/{method}/families/{layer}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("families"),
    params:
        settings=settings("families"),
        lineage=lineage("families"),
    message:
        "Find the families of {wildcards.layer} ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/families.py --concepts {input.concepts} --tree {input.tree} --families {output}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule trials:
    input:
        needs("trials"),
    output:
        made("trials"),
    log:
        results("logs/{method}/trials/{layer}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("trials"),
    params:
        settings=settings("trials"),
        lineage=lineage("trials"),
    message:
        "Try numbers of concepts a PFV of {wildcards.layer} ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/trials.py --manifests {input.manifests} --centre {input.centre}"
        " --concepts {input.concepts} --pfvs {input.pfvs} --trials {output}"
        " --settings {params.settings:q} --lineage {params.lineage}"
        ' --compute "$GIGRAPH_COMPUTE" --log {log}'


rule calibration:
    input:
        needs("calibration"),
    output:
        made("calibration"),
    log:
        results("logs/{method}/calibration/{layer}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("calibration"),
    params:
        settings=settings("calibration"),
        lineage=lineage("calibration"),
    message:
        "Calibrate lambda of {wildcards.layer} ({wildcards.method}, Eq. 2)"
    shell:
        "python $GIGRAPH_SCRIPTS/calibration.py --trials {input.trials} --centre {input.centre}"
        " --concepts {input.concepts} --pfvs {input.pfvs} --calibration {output} --settings {params.settings:q} --lineage {params.lineage}"
        ' --compute "$GIGRAPH_COMPUTE" --log {log}'


rule coefficients:
    input:
        needs("coefficients"),
    output:
        coefficients=made("coefficients"),
        decisions=made("decisions"),
    log:
        results("logs/{method}/coefficients/{layer}/{shard}.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("coefficients"),
    params:
        settings=settings("coefficients"),
        lineage=lineage("coefficients"),
    message:
        "Decompose the PFVs of {wildcards.layer}, shard {wildcards.shard} ({wildcards.method}, Eqs. 1 and 2)"
    shell:
        "python $GIGRAPH_SCRIPTS/coefficients.py --selection {input.selection} --centre {input.centre}"
        " --concepts {input.concepts} --calibration {input.calibration} --coefficients {output.coefficients}"
        " --decisions {output.decisions}"
        " --shard {wildcards.shard} --settings {params.settings:q} --lineage {params.lineage}"
        ' --compute "$GIGRAPH_COMPUTE" --log {log}'
