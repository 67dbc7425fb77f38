"""How far the graph can be trusted: reconstruction, integrals, ablation, and the drawn world's ground truth."""

FIGURE_TEXTS = {
    "reconstruction": (
        "error-and-sparsity",
        "Reconstruction",
        "Error and sparsity per layer",
    ),
    "quadrature": ("quadrature", "Attribution", "Error of the integrals"),
    "ablation": ("ablation", "Attribution", "Edges beside exact ablation"),
}
PICTURE_TEXTS = {
    "reconstruction": "Reconstruction per layer and method (Table 1)",
    "extraction": "Concepts deleted and inserted by relevance to the class (Fig. 4, Table 2)",
    "interlayer": "Concepts deleted and inserted between layers (Fig. 5)",
    "edges": "Edges beside exact ablation, and what attributions are made of",
    "stability": "Concepts found again",
    "sensitivity": "Other penalties lambda",
    "truth": "The drawn world's truth",
}


rule reconstruction:
    input:
        needs("reconstruction"),
    output:
        made("reconstruction"),
    log:
        results("logs/{method}/reconstruction.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("reconstruction"),
    params:
        root=root,
        settings=settings("reconstruction"),
        lineage=lineage("reconstruction"),
    message:
        "Measure how well the concepts reconstruct ({wildcards.method}, Table 1)"
    shell:
        "python $GIGRAPH_SCRIPTS/reconstruction.py --root {params.root} --method {wildcards.method} --reconstruction {output}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule alignment:
    input:
        needs("alignment"),
    output:
        made("alignment"),
    log:
        results("logs/{method}/alignment.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("alignment"),
    params:
        root=root,
        settings=settings("alignment"),
        lineage=lineage("alignment"),
    message:
        "Compare the concepts with the drawn parts ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/alignment.py --root {params.root} --alignment {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule figures:
    input:
        needs("figures"),
    output:
        [
            report(
                made("figure", figure=figure),
                caption=f"../workflow/report/{caption}.rst",
                category=category,
                labels={"method": "{method}", "figure": title},
            )
            for figure, (caption, category, title) in FIGURE_TEXTS.items()
        ],
    log:
        results("logs/{method}/figures.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("figures"),
    params:
        root=root,
        settings=settings("figures"),
        lineage=lineage("figures"),
    message:
        "Draw the figures ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/figures.py --root {params.root} --method {wildcards.method} --settings {params.settings:q} --lineage {params.lineage}"
        " --log {log}"


# ---- the target `evaluation`: everything below, for all of `evaluation.methods` ------------------------------


rule heldout:
    input:
        needs("heldout"),
    output:
        made("heldout"),
    log:
        results("logs/heldout.log"),
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
        needs("validation"),
    output:
        measures=made("measures"),
        curves=made("curves"),
    log:
        results("logs/{method}/validation/{layer}.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("validation"),
    params:
        root=root,
        settings=settings("validation"),
        lineage=lineage("validation"),
    message:
        "Validate {wildcards.layer} on held-out images ({wildcards.method}, Tables 1 and 2, Figs. 4 and 5)"
    shell:
        "python $GIGRAPH_SCRIPTS/validation.py --root {params.root} --heldout {input.heldout}"
        " --measures {output.measures} --curves {output.curves}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule stability:
    input:
        needs("stability"),
    output:
        stability=made("stability"),
        measures=made("stability_measures"),
    log:
        results("logs/{method}/stability/{layer}.log"),
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
        " --uniform {input.uniform}"
        " --stability {output.stability} --measures {output.measures}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule edge_checks:
    input:
        needs("edge_checks"),
    output:
        checks=made("checks"),
        measures=made("checks_measures"),
    log:
        results("logs/{method}/edge_checks.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("edge_checks"),
    params:
        root=root,
        settings=settings("edge_checks"),
        lineage=lineage("edge_checks"),
    message:
        "Check edges by exact ablation, shown and not ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/edge_checks.py --root {params.root} --selection {input.selection}"
        " --checks {output.checks} --measures {output.measures}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule probes:
    input:
        needs("probes"),
    output:
        [update(path) for name in STAGES["probes"].writes for path in every(name)],
    log:
        results("logs/probes.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("probes"),
    params:
        root=root,
        settings=settings("probes"),
        lineage=lineage("probes"),
    message:
        "Gather what extractors are compared on, of the network and of the same with its weights shuffled"
    shell:
        "python $GIGRAPH_SCRIPTS/probes.py --manifests {input.manifests} --heldout {input.heldout} --root {params.root}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule comparison:
    input:
        needs("comparison"),
    output:
        made("comparison"),
    log:
        results("logs/{method}/comparison/{layer}.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("comparison"),
    params:
        root=root,
        settings=settings("comparison"),
        lineage=lineage("comparison"),
    message:
        "Compare the concepts of {wildcards.layer} by reading, size, seed and coder ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/comparison.py --root {params.root} --comparison {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule effects:
    input:
        needs("effects"),
    output:
        made("effects"),
    log:
        results("logs/effects.log"),
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
        needs("truth"),
    output:
        made("truth"),
    log:
        results("logs/{method}/truth.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("truth"),
    params:
        root=root,
        settings=settings("truth"),
        lineage=lineage("truth"),
    message:
        "Compare the concepts with the drawn world's truth ({wildcards.method})"
    shell:
        "python $GIGRAPH_SCRIPTS/truth.py --root {params.root} --effects {input.effects} --measures {output}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule evaluation_tables:
    input:
        needs("evaluation_tables"),
    output:
        every("topic"),
        stability=every("stability_of_all"),
        summary=made("summary"),
    log:
        results("logs/evaluation_tables.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("evaluation_tables"),
    params:
        root=root,
        settings=settings("evaluation_tables"),
        lineage=lineage("evaluation_tables"),
    message:
        "Gather the evaluation's tables"
    shell:
        "python $GIGRAPH_SCRIPTS/evaluation_tables.py --root {params.root} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"


rule evaluation_figures:
    input:
        needs("evaluation_figures"),
    output:
        [
            report(
                made("evaluation_figure", picture=picture),
                caption=f"../workflow/report/{picture}.rst",
                category="Evaluation",
                labels={"figure": PICTURE_TEXTS[picture]},
            )
            for picture in PLAN.values("picture")
        ],
    log:
        results("logs/evaluation_figures.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("evaluation_figures"),
    params:
        root=root,
        settings=settings("evaluation_figures"),
        lineage=lineage("evaluation_figures"),
    message:
        "Draw the evaluation's figures"
    shell:
        "python $GIGRAPH_SCRIPTS/evaluation_figures.py --root {params.root} --settings {params.settings:q}"
        " --lineage {params.lineage} --log {log}"


rule evaluation:
    input:
        [
            every(name)
            for name in (
                "kernels",
                "summary",
                "topic",
                "evaluation_figure",
                "evidence",
            )
        ],
