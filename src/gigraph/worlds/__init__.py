"""Drawn worlds with ground truth: images of shared parts, a planted shortcut, and a model that takes it.

A world is a sub-package that decides what is in a picture (``scene``), paints it (``draw``) and says so in one
`gigraph.worlds.world.World` (``world.WORLD``), with its trained model beside it (``checkpoint.safetensors``);
`gigraph.worlds.registry` lists them. All else knows no world: `canvas` has the drawing, `dataset` writes many scenes,
`model` and `train` make the classifier, `facts` measures what it relies on by drawing scenes again with one thing
changed, `alignment` and `truth` score concepts by the parts.
"""
