"""Images, the model, and the PFVs drawn from them."""


rule draw:
    input:
        needs("draw"),
    output:
        directory(made("drawn")),
    log:
        results("logs/draw.log"),
    priority: 2 * START  # in place of two others
    conda:
        "../envs/gigraph.yaml"
    threads: 2
    resources:
        **claims("draw"),
    params:
        settings=settings("draw"),
        lineage=lineage("draw"),
    message:
        "Draw the world"
    shell:
        "python $GIGRAPH_SCRIPTS/draw.py --folder {output}"
        " --workers {threads} --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule train:
    input:
        needs("train"),
    output:
        made("checkpoint"),
    log:
        results("logs/train.log"),
    priority: START
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("train"),
    params:
        settings=settings("train"),
        lineage=lineage("train"),
    message:
        "Train the drawn world's model"
    shell:
        "python $GIGRAPH_SCRIPTS/train.py --checkpoint {output} --settings {params.settings:q} --lineage {params.lineage} --log {log}"


rule network:
    input:
        needs("network"),
    output:
        layers=made("layers"),
        classes=made("classes"),
    log:
        results("logs/network.log"),
    priority: START
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("network"),
    params:
        settings=settings("network"),
        lineage=lineage("network"),
    message:
        "Check the model, its layers and the class folders"
    shell:
        "python $GIGRAPH_SCRIPTS/network.py --layers {output.layers} --class_table {output.classes}"
        ' --settings {params.settings:q} --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule manifest:
    input:
        needs("manifest"),
    output:
        manifest=made("manifest"),
        rejected=made("unreadable"),
    log:
        results("logs/manifest/{shard}.log"),
    priority: SHARD
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("manifest"),
    params:
        settings=settings("manifest"),
        lineage=lineage("manifest"),
    message:
        "List and decode the images of shard {wildcards.shard}"
    shell:
        "python $GIGRAPH_SCRIPTS/manifest.py --classes {input.classes} --manifest {output.manifest} --rejected {output.rejected}"
        " --shard {wildcards.shard} --settings {params.settings:q} --lineage {params.lineage}"
        ' --compute "$GIGRAPH_COMPUTE" --log {log}'


rule selection:
    input:
        needs("selection"),
    output:
        made("selection"),
    log:
        results("logs/selection.log"),
    priority: FIRST
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("selection"),
    params:
        settings=settings("selection"),
        lineage=lineage("selection"),
    message:
        "Choose the images to attribute"
    shell:
        "python $GIGRAPH_SCRIPTS/selection.py --manifests {input.manifests} --rejects {input.rejected}"
        " --predictions {input.predictions} --classes {input.classes}"
        " --selection {output}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"


# All layers of a shard in one sweep. `update` keeps the tables of the layers that are up to date.
rule sample:
    input:
        needs("sample"),
    output:
        [update(path) for path in made("pfvs", layer=PLAN.layers)],
        predictions=made("predictions"),
    log:
        results("logs/sample/{shard}.log"),
    priority: SHARD
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("sample"),
    params:
        root=root,
        settings=settings("sample"),
        lineage=lineage("sample"),
    message:
        "Sample the PFVs of shard {wildcards.shard}, all layers in one sweep"
    shell:
        "python $GIGRAPH_SCRIPTS/sample.py --manifest {input.manifest} --predictions {output.predictions}"
        " --root {params.root} --shard {wildcards.shard} --settings {params.settings:q}"
        ' --lineage {params.lineage} --compute "$GIGRAPH_COMPUTE" --log {log}'


rule uniform:
    input:
        needs("uniform"),
    output:
        made("uniform"),
    log:
        results("logs/uniform/{layer}.log"),
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("uniform"),
    params:
        settings=settings("uniform"),
        lineage=lineage("uniform"),
    message:
        "Draw PFVs of {wildcards.layer} at positions drawn uniformly"
    shell:
        "python $GIGRAPH_SCRIPTS/uniform.py --manifests {input.manifests} --uniform {output}"
        " --settings {params.settings:q} --lineage {params.lineage}"
        ' --compute "$GIGRAPH_COMPUTE" --log {log}'


rule images:
    input:
        needs("images"),
    output:
        images=made("images"),
        rejected=made("rejected"),
    log:
        results("logs/images.log"),
    priority: START  # it says whether the model knows the images, as soon as that is known
    conda:
        "../envs/gigraph.yaml"
    resources:
        **claims("images"),
    params:
        settings=settings("images"),
        lineage=lineage("images"),
    message:
        "Gather the manifest and the predictions"
    shell:
        "python $GIGRAPH_SCRIPTS/images.py --manifests {input.manifests} --rejects {input.rejected}"
        " --predictions {input.predictions} --images {output.images} --rejected {output.rejected}"
        " --settings {params.settings:q} --lineage {params.lineage} --log {log}"
