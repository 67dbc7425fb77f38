"""The second drawn world: ten vehicles of shared parts, and a rainbow behind them for a shortcut.

It is there so that nothing is tuned to the first one: other things, parts, textures and places, parts that are smaller
(lamps) and larger (bodies), and a shortcut of another kind, a faint arc across the background instead of a card in a
corner. Its configuration (``workflow/configs/traffic.yaml``) takes every setting of the first world's; they were frozen
before any concept of this world was evaluated.

``checkpoint.safetensors`` was made in this folder by

    OMP_NUM_THREADS=1 python -m gigraph.worlds.train --world traffic --out checkpoint.safetensors

and its metadata holds that command, the versions and the measured facts.
"""
