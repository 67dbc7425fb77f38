"""The same network with its weights shuffled: what no measure of its concepts should take for a trained one.

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018; for concepts, Korznikov et al., "Sanity checks for
sparse autoencoders", arXiv 2602.14111.
"""

from __future__ import annotations

import torch
from torch import nn

from gigraph.hashing import mix, text_key


def shuffle(module: nn.Module, seed: int) -> None:
    """Permute the numbers of each parameter, in place: how they are distributed in each layer stays.

    Buffers, such as the statistics of batch norms, stay as they are. Of the drawn world's network activations stay in
    range, though two in five channels of its last block become dead.

    Parameters
    ----------
    module : nn.Module
    seed : int
        With the parameter's name it keys the permutation.
    """
    for name, parameter in module.named_parameters():
        random = torch.Generator().manual_seed(int(mix(seed, text_key(name))) >> 1)
        order = torch.randperm(parameter.numel(), generator=random).to(parameter.device)
        with torch.no_grad():
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
