"""A drawn world with ground truth: animals of shared parts, a planted shortcut, and a model that takes it.

`scene` decides what is in a picture, `draw` paints it, `dataset` writes many, `model` and `train` make the
classifier, `facts` measures what it relies on by drawing scenes again with one thing changed, and `alignment`
scores how well concepts match the parts.

The shipped ``checkpoint.safetensors`` was made in this folder by

    OMP_NUM_THREADS=1 python -m gigraph.menagerie.train --out checkpoint.safetensors

and carries that command, the versions and the measured facts in its metadata (`model.metadata`).
"""
