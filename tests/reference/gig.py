"""Eqs. 3 to 7, read literally: one autograd gradient per coefficient, position, step and target."""

from __future__ import annotations

import torch
from torch import Tensor


def gig_at_positions(segment, score, u: Tensor, vectors: Tensor, beta: Tensor, target: int, steps: int) -> Tensor:
    """GIG(q|p, t) [P, Q] of one image by Eq. 4; u [P, Q], vectors [Q, C].

    The gradient is taken at the path point: with respect to coefficients u' that stand at alpha u.
    """
    total = torch.zeros_like(u)
    for step in range(steps):
        alpha = (step + 0.5) / steps
        at = (alpha * u).detach().requires_grad_()
        omega = segment((beta + at @ vectors)[None])  # Eq. 3
        value = score(omega, torch.tensor([[target]]))[0, 0]
        (gradient,) = torch.autograd.grad(value, at)
        total += gradient / steps
    return u * total


def concept_value(omega: Tensor, vector: Tensor) -> Tensor:
    """sum_i <w_i, vbar> of one image, omega [P, C], position by position."""
    unit = vector / vector.norm()
    return sum(omega[i] @ unit for i in range(len(omega)))


def class_value(logits: Tensor, label: int) -> Tensor:
    """<w, e_c> with w the probabilities [Eqs. 6, 7]; logits [classes]."""
    one_hot = torch.zeros_like(logits)
    one_hot[label] = 1
    return (logits.exp() / logits.exp().sum()) @ one_hot
