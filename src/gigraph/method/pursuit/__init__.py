"""The coefficients of vectors on few concept vectors: orthogonal matching pursuit, and refitting given supports.

Notation: x [C] a centred PFV, V [K, C] concept vectors as rows, S the support, u [K] coefficients, zero outside S,
r = x - u V the residual. Correlations are those of unit atoms, v_j . r / |v_j|: rows of V have any length.

**Pursuit.** From u = 0: the atom that correlates most with r joins S (of equal ones that of smallest index), and u
becomes the least squares on S, so that r is orthogonal to S. This is Pati, Rezaiifar & Krishnaprasad, "Orthogonal
matching pursuit", Asilomar 1993. Compiled, as Rubinstein, Zibulevsky & Elad, "Efficient implementation of the K-SVD
algorithm using batch orthogonal matching pursuit", 2008: the Cholesky factor of S grows by a row an atom, and the
correlations are those of x minus rows of the Gram matrix. Without room for that matrix, and in torch, they are those
of r, one thin product for all samples of a batch.

**What is decided in float32, and what is not.** The K correlations are float32, with a bound on their error; of the
atoms that may be the largest under that bound (mostly one), those of r in float64 decide. The factor, u and r are
float64 throughout. So supports are those of float64, and what is compiled yields the same bits whatever the batch, the
memory and the threads.

**Non-negative.** Only positive correlations are candidates, and where the least squares on S turn negative, u goes
towards them until a coefficient is zero, which leaves S, until all are positive: the active-set method of Lawson &
Hanson, "Solving least squares problems", 1974, ch. 23, from the atoms of the pursuit and stopped early. Bruckstein,
Elad & Zibulevsky, "On the uniqueness of nonnegative sparse solutions to underdetermined systems of equations", 2008,
and Nguyen, Idier, Soussen & Djermoune, "Non-negative orthogonal greedy algorithms", IEEE TSP 2019, treat it as a
pursuit. After each atom: u > 0 on S and r is orthogonal to S, so u is the non-negative least squares on S; and |r|
has fallen, so no support comes twice. Not stopped early, u is the non-negative least squares on all of V.

**Certificate.** The result's stationarity and relative error are of the stored (float32) u, from r = x - u V summed
in float64.
"""

from gigraph.method.lasso.codes import Codes
from gigraph.method.pursuit.solver import MEMORY, Backend, Pursuit, Sign, refit

__all__ = ["MEMORY", "Backend", "Codes", "Pursuit", "Sign", "refit"]
