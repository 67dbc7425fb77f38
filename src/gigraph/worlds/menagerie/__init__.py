"""The first drawn world: ten animals of shared parts, and a tag in a corner for a shortcut.

``checkpoint.safetensors`` was made by the training step (`gigraph.worlds.train`, then called
``gigraph.menagerie.train``); its metadata holds that command, the versions and the measured facts.
"""
