"""Eq. 10, read literally: every v_ij formed by running the operation on one position at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def sharing_ratio(operation, x: Tensor, relevance: Tensor) -> Tensor:
    """R_i = sum_j <v_ij, v_j> / |v_j|^2 R_j for one image.

    `operation` maps [1, C_l, H, W] to [1, C_k, H', W'] and is affine; x [C_l, H, W]; relevance [H', W'].
    """
    v = operation(x[None])[0]  # [C_k, H', W']
    bias = operation(torch.zeros_like(x)[None])[0]
    result = torch.zeros(x.shape[1:], dtype=x.dtype)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            alone = torch.zeros_like(x)
            alone[:, row, column] = x[:, row, column]
            part = operation(alone[None])[0] - bias  # v_ij for all j
            for i in range(v.shape[1]):
                for j in range(v.shape[2]):
                    whole = v[:, i, j]
                    if whole @ whole > 0:
                        result[row, column] += (part[:, i, j] @ whole) / (whole @ whole) * relevance[i, j]
    return result


def bias_share(operation, x: Tensor, relevance: Tensor) -> float:
    """What the bias keeps: sum_j R_j <b_j, v_j> / |v_j|^2."""
    v = operation(x[None])[0]
    bias = operation(torch.zeros_like(x)[None])[0]
    norms = (v * v).sum(0)
    ratio = torch.where(norms > 0, (bias * v).sum(0) / norms.clamp_min(1e-300), 0)
    return float((relevance * ratio).sum())
