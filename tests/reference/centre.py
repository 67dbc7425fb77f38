"""Eq. 8, number by number, from a block's batch norms given by hand."""

import math

import numpy as np


def net_shift(norms):
    """Sum over batch norms of  -gamma mu_rn / sqrt(sigma_rn^2 + eps) + beta, channel by channel [Eq. 8]."""
    channels = norms[0].num_features
    total = np.zeros(channels)
    for norm in norms:
        for c in range(channels):
            gamma, beta = norm.weight[c].item(), norm.bias[c].item()
            mu, variance = norm.running_mean[c].item(), norm.running_var[c].item()
            total[c] += -gamma * mu / math.sqrt(variance + norm.eps) + beta
    return total
