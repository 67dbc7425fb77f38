"""Bisecting spherical k-means (App. B): a layer's concepts and the tree of splits that made them.

Notation: x_i [C] unit row, s_0, s_1 [C] sums of a node's two sides, c = s / |s| centroids, d = c_1 - c_0.

1. Rows are scaled to unit length and rounded to multiples of 2**-24.
2. The largest leaf is split in two by spherical 2-means: row i goes to side 1 iff x_i . d > 0.
3. Until there are K leaves, or no leaf can be split.
4. A concept vector is the mean of its members' centred vectors, not the unit centroid
   (`gigraph.method.vectors.concept_vectors`).

Every back end, every order of the rows and every order of summation gives the *same* tree, bit for bit,
because nothing that decides is ever rounded. Rows are multiples of 2**-24 of at most unit length, so a
float64 sum of up to 2**29 rows is exact in any order. d is rounded to 28 significant bits relative to |d|,
so by Cauchy-Schwarz every partial sum of x_i . d fits 53 bits, and float64 dot products are exact in any
order, fused or not. What does round, the lengths of s_0, s_1 and d, is summed along a fixed tree of
element-wise operations (``_fold``), which IEEE 754 makes equal everywhere. float32 is only used with a bound
on its error, and what the bound leaves undecided is redone in float64.

References: Dhillon & Modha, "Concept decompositions for large sparse text data using clustering", Machine
Learning 42, 2001; Steinbach, Karypis & Kumar, "A comparison of document clustering techniques", KDD workshop
on text mining, 2000. The skip bound is Hamerly's, "Making k-means even faster", SDM 2010, for two centres.
"""

from gigraph.method.bisecting.bisecting import Backend, bisect, capped_concepts
from gigraph.method.bisecting.tree import SplitTree

__all__ = ["Backend", "SplitTree", "bisect", "capped_concepts"]
