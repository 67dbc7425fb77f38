"""The coefficients of vectors on concept vectors: lasso with a certificate (Eqs. 1-2).

Notation: x [C] a centred PFV, V [K, C] concept vectors as rows, u [K] coefficients, r = x - u V the residual,
c = V r the correlations, lambda the penalty, P(u) = 1/2 |r|^2 + lambda |u|_1 the primal of Eq. 2.

Per batch of samples, until each has its certificate:

1. r from the stored (float32) u, summed directly in float64; c for all K atoms by one thin product in
   float32, or, compiled and where the Gram matrix fits, kept up to date by its rows, with an error bound that
   grows with each.
2. Certified: relative duality gap <= tol. Else the working set is the support and the worst violators
   |c_j| > lambda.
3. On the working set: coordinate descent finds the signed support, Newton's method solves it, and a
   coefficient that would change sign is stepped to zero and dropped.

**Certificate.** s r with s = min(1, lambda / |c|_inf, x.r / |r|^2) is dual feasible and

    gap = 1/2 (1 - s)^2 |r|^2 + sum_j |u_j| (lambda - s sign(u_j) c_j),

each term >= 0, bounds P(u) - min P. Atoms whose float32 correlation plus its error bound exceeds lambda are
recomputed in float64, so |c|_inf is never under-estimated; the reported gap is gap / P(u). The textbooks'
primal minus dual cancels, and turns negative in float32.

**Non-negative** coefficients: |u|_1 is their sum, only positive correlations bind, and |c|_inf is max_j c_j
throughout; Newton's method keeps signs as it is.

References: Lee, Battle, Raina & Ng, "Efficient sparse coding algorithms", NIPS 2006 (signed support);
Massias, Gramfort & Salmon, "Celer", ICML 2018 (working sets); Ndiaye et al., "Gap safe screening rules",
JMLR 2017 (gap).
"""

from gigraph.method.lasso.codes import Codes, Sign
from gigraph.method.lasso.solver import MEMORY, Backend, Calibration, Solver, calibrate, lambda_max, lasso

__all__ = ["MEMORY", "Backend", "Calibration", "Codes", "Sign", "Solver", "calibrate", "lambda_max", "lasso"]
