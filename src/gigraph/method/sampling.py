"""Which positions of an image stand for it: PFVs drawn in proportion to their contribution (Sec. 3.2.1)."""

from __future__ import annotations

import numpy as np

from gigraph.hashing import text_key, uniform


def draw_positions(
    contribution: np.ndarray, count: int, *, seed: int, image_ids: np.ndarray, layer: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw positions without replacement with probability proportional to max(R_p, 0).

    Each position waits an exponential time of rate max(R_p, 0), and the first `count` arrivals are taken, which is
    sequential drawing without replacement (Efraimidis & Spirakis, "Weighted random sampling with a reservoir",
    2006). The waiting times are keyed by (seed, image, layer, position), so that neither shard nor batch matters.

    Parameters
    ----------
    contribution : array [N, P]
        R_p of each position.
    count : int
        Positions per image; at most P are drawn.
    seed : int
        The run's seed.
    image_ids : array of int64 [N]
        Ids of the images.
    layer : str
        Name of the layer.

    Returns
    -------
    positions : array of int64 [N, min(count, P)]
        Positions in order of arrival.
    fallback : array of bool [N, min(count, P)]
        True where no positive contribution was left, so that the position was drawn uniformly.
    """
    p = contribution.shape[1]
    u = uniform(seed, text_key(layer), np.asarray(image_ids)[:, None], np.arange(p)[None])  # [N, P]
    waiting = -np.log(u)
    rate = np.maximum(contribution.astype(np.float64), 0)
    positive = rate > 0
    with np.errstate(divide="ignore", over="ignore"):
        arrival = np.where(positive, waiting / rate, np.inf)
    # Positions without positive contribution come after all others, among themselves uniformly.
    order = np.lexsort((waiting, arrival, ~positive), axis=1)[:, : min(count, p)]
    return order, ~np.take_along_axis(positive, order, axis=1)
