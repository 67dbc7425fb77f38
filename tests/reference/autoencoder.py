"""Eq. 11, read literally: one PFV, one feature, one channel at a time."""

from __future__ import annotations

import math


def loss(x, w_e, b_e, w_d, b_d, penalty: float) -> float:
    """The loss of PFVs x [N][n]; w_e [m][n], b_e [m], w_d [n][m], b_d [n] are nested lists."""
    n, m = len(b_d), len(b_e)
    total = 0.0
    for one in x:
        f = [max(0.0, sum(w_e[i][j] * one[j] for j in range(n)) + b_e[i]) for i in range(m)]
        x_hat = [sum(w_d[j][i] * f[i] for i in range(m)) + b_d[j] for j in range(n)]
        total += sum((one[j] - x_hat[j]) ** 2 for j in range(n))
        total += penalty * sum(abs(f[i]) * math.sqrt(sum(w_d[j][i] ** 2 for j in range(n))) for i in range(m))
    return total / len(x)
