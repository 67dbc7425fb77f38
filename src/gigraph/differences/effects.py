"""What matched concepts do in either run: for the classes, and for each other; compared image by image.

Two kinds of comparisons: what a concept that *both* have does in either run, and what a concept that *only* one has
does, which is nothing in the other (zeros). Concepts that are split from one of the other run
(`gigraph.method.matching`) count with its partner: attributions add up, and what the one run has in two is compared
with what the other has in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from gigraph.differences.finished import Finished
from gigraph.differences.images import Common
from gigraph.differences.responses import Vocabularies
from gigraph.method.contrast import (
    Contrast,
    at_least,
    between_trainings,
    false_discovery,
    paired,
    welch,
    widened,
)
from gigraph.reserved import CLASSES

ENDS = ("a", "b")
MEASURED: dict[str, Any] = {
    "mean_a": pl.Float64, "mean_b": pl.Float64, "difference": pl.Float64, "se": pl.Float64, "df": pl.Float64,
    "p": pl.Float64, "images_a": pl.Int64, "images_b": pl.Int64, "paired": pl.Boolean,
}  # fmt: skip
"""Columns of every comparison: means of the two runs, b less a, its standard error, degrees of freedom, p-value."""
IDS = pl.List(pl.Int64)
RELEVANCE: dict[str, Any] = {
    "class": pl.String, "layer": pl.String, "kind": pl.String, "a": pl.Int64, "b": pl.Int64, "with_a": IDS,
    "with_b": IDS, **MEASURED,
}  # fmt: skip
"""Ids are of partners, null where a run has none; ``with`` are those that are split from the other's, and count too."""
EDGE: dict[str, Any] = {
    "class": pl.String, "kind": pl.String, "source_layer": pl.String, "source_a": pl.Int64, "source_b": pl.Int64,
    "source_with_a": IDS, "source_with_b": IDS,
    "target_layer": pl.String, "target_a": pl.Int64, "target_b": pl.Int64, **MEASURED,
}  # fmt: skip
RANKED = {
    "rank": pl.Int64, "kept": pl.Boolean, "q": pl.Float64, "at_least": pl.Float64, "noise": pl.Float64,
}  # fmt: skip
"""Columns that ranking adds: kept is what is told from chance; rank and q are null where nothing was tested, noise
where no other training tells it."""
FEWEST = 3
"""Images of a class that an edge is compared over: two that happen to agree would have no error at all."""
ENOUGH = 0.5
"""Share of the smaller side's images that both runs must have for these to be compared one by one."""


@dataclass(frozen=True)
class Sides:
    """The attributed images of a class in both runs; rows of arrays stand for them.

    Attributes
    ----------
    ids : two int64 arrays
        Ids in either run; where `same`, those at equal places are one image.
    same : bool
        Whether both runs attributed the same images.
    """

    ids: tuple[np.ndarray, np.ndarray]
    same: bool

    @classmethod
    def of(cls, one: np.ndarray, two: np.ndarray, partners: dict[int, int]) -> Sides:
        """Take the images that both have if these are most of them, else all of either."""
        there = set(two.tolist())
        both = [(a, partners[a]) for a in one.tolist() if partners.get(a) in there]
        if len(both) > 1 and len(both) >= ENOUGH * min(len(one), len(two)):
            first, second = (np.array(side, np.int64) for side in zip(*both, strict=True))
            return cls((first, second), True)
        return cls((one, two), False)

    def contrast(self, values: tuple[np.ndarray, np.ndarray]) -> Contrast:
        """Compare effects [n, E] of the one with [m, E] of the other."""
        return (paired if self.same else welch)(*values)


class Compared:
    """Two runs with matched concepts.

    Parameters
    ----------
    runs : two Finished
    common : Common
        Their images.
    matched : dict of str to Vocabularies
        Of each layer that both have.
    classes : list of str
        The classes that both have.
    """

    def __init__(
        self, runs: tuple[Finished, Finished], common: Common, matched: dict[str, Vocabularies], classes: list[str]
    ):
        self.runs, self.matched, self.classes = runs, matched, classes
        partners = dict(common.partners().iter_rows()) if common.shared else {}
        self.sides: dict[str, Sides] = {}
        for name in classes:
            one, two = (
                run.attributed.filter(pl.col("label") == run.names[name])["image_id"].to_numpy() for run in runs
            )
            if len(one) and len(two):
                self.sides[name] = Sides.of(one, two, partners)

    def relevances(self) -> pl.DataFrame:
        """Compare how relevant each concept is to each class, over the class's images [Eq. 7]."""
        found = [pl.DataFrame(schema=RELEVANCE)]
        for layer in self.matched:
            one, two = (run.attributions(layer, CLASSES) for run in self.runs)
            if one is not None and two is not None:
                found += self._relevances(layer, (one, two))
        return pl.concat(found)

    def _relevances(self, layer: str, tables: tuple[pl.DataFrame, pl.DataFrame]) -> Iterator[pl.DataFrame]:
        nodes = self._nodes(layer)
        for name, sides in self.sides.items():
            values = []
            for run, table, ids in zip(self.runs, tables, sides.ids, strict=True):
                own = table.filter((pl.col("target") == run.names[name]) & pl.col("image_id").is_in(ids.tolist()))
                values.append((own, ids))
            dense = _dense(nodes, values, share=False)
            yield _frame(RELEVANCE, {"class": name, "layer": layer}, nodes, sides, dense)

    def edges(self, source: str, target: str) -> pl.DataFrame:
        """Compare what each concept does for each matched one of a later layer, over each class's images.

        Over the images in which that one was a target, and as a share of all that is attributed to it there
        (``total_absolute``): scores of two networks have no unit in common.
        """
        one, two = (run.attributions(source, target) for run in self.runs)
        if one is None or two is None:
            return pl.DataFrame(schema=EDGE)
        tables = one, two
        found, there, nodes = [pl.DataFrame(schema=EDGE)], self.matched[target], self._nodes(source)
        for name, sides in self.sides.items():
            parts = [
                table.filter(pl.col("image_id").is_in(ids.tolist())).partition_by("target", as_dict=True)
                for table, ids in zip(tables, sides.ids, strict=True)
            ]
            for a, b in zip(there.nodes.one, there.nodes.two, strict=True):
                ends = int(there.ids[0][a]), int(there.ids[1][b])
                first, second = (part.get((end,)) for part, end in zip(parts, ends, strict=True))
                if first is None or second is None:
                    continue
                where = self._evaluated(sides, first, second)
                if min(len(ids) for ids in where.ids) < FEWEST:
                    continue
                rows = list(zip((first, second), where.ids, strict=True))
                dense = _dense(nodes, rows, share=True)
                said = {
                    "class": name, "source_layer": source, "target_layer": target, "target_a": ends[0],
                    "target_b": ends[1],
                }  # fmt: skip
                found.append(_frame(EDGE, said, nodes, where, dense, "source_"))
        return pl.concat(found)

    @staticmethod
    def _evaluated(sides: Sides, one: pl.DataFrame, two: pl.DataFrame) -> Sides:
        """Return the images of a class in which the target was evaluated, in both runs where they are the same."""
        inside = [np.isin(ids, table["image_id"]) for ids, table in zip(sides.ids, (one, two), strict=True)]
        if sides.same:
            inside = [inside[0] & inside[1]] * 2
        first, second = (ids[there] for ids, there in zip(sides.ids, inside, strict=True))
        return Sides((first, second), sides.same)

    def _nodes(self, layer: str) -> list[Nodes]:
        """Return what is compared of a layer: pairs, then what only A has, then what only B has."""
        nodes, ids = self.matched[layer].nodes, self.matched[layer].ids
        splits = (nodes.split_of_one, nodes.split_of_two)
        found: list[Nodes] = []
        for pair in zip(nodes.one.tolist(), nodes.two.tolist(), strict=True):
            parts = (
                [own[k], *own[np.flatnonzero(split == other)]]
                for own, split, k, other in zip(ids, splits, pair, pair[::-1], strict=True)
            )
            found.append(tuple([int(one) for one in part] for part in parts))
        found += [([int(one)], []) for one in ids[0][nodes.only_one]]
        return found + [([], [int(one)]) for one in ids[1][nodes.only_two]]


Nodes = tuple[list[int], ...]
"""What is compared: ids in A and in B, partners first; none where a run has none."""


def _dense(
    nodes: list[Nodes], rows: list[tuple[pl.DataFrame, np.ndarray]], share: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the compared nodes do in either run's images, float64 [n, E] and [m, E]; zeros without a row."""
    found = []
    for side, (table, ids) in enumerate(rows):
        column = {one: i for i, ends in enumerate(nodes) for one in ends[side]}
        row = {int(one): i for i, one in enumerate(ids.tolist())}
        dense = np.zeros((len(ids), len(nodes)))
        for image, sources, values, total in table.select(
            "image_id", "sources", "values", "total_absolute"
        ).iter_rows():
            at = row.get(image)
            if at is not None:
                scale = (1 / total if total else 0.0) if share else 1.0
                np.add.at(dense[at], [column[one] for one in sources], np.multiply(values, scale))
        found.append(dense)
    return found[0], found[1]


def _frame(
    schema: dict[str, Any],
    said: dict[str, object],
    nodes: list[Nodes],
    sides: Sides,
    values: tuple[np.ndarray, np.ndarray],
    prefix: str = "",
) -> pl.DataFrame:
    """Return the comparisons of effects of which any run has one."""
    there = values[0].any(0) | values[1].any(0)
    own = [nodes[i] for i in np.flatnonzero(there)]
    contrast = sides.contrast((values[0][:, there], values[1][:, there]))
    ids = {
        f"{prefix}{what}{end}": [one[side][0] if one[side] else None for one in own] if not what else [
            one[side][1:] for one in own
        ]
        for side, end in enumerate(ENDS) for what in ("", "with_")
    }  # fmt: skip
    frame = pl.DataFrame(
        {
            "kind": ["both" if all(ends) else "only" for ends in own], **ids, "mean_a": contrast.one,
            "mean_b": contrast.two, "difference": contrast.difference, "se": contrast.se, "df": contrast.df,
            "p": contrast.p,
        },
        schema_overrides={name: schema[name] for name in ids},
    )  # fmt: skip
    counts = {f"images_{end}": len(ids) for end, ids in zip(ENDS, sides.ids, strict=True)}
    frame = frame.with_columns(
        pl.col("se", "df", "p").fill_nan(None),
        **{name: pl.lit(value) for name, value in {**said, **counts, "paired": sides.same}.items()},
    )
    return frame.select([pl.col(name).cast(kind) for name, kind in schema.items()])


def noise_of(groups: Sequence[tuple[int, Sequence[pl.DataFrame]]]) -> pl.DataFrame:
    """Return what another training changes in effects, by the kind of comparison, over all layers and classes.

    A concept that only one of two trainings has is another thing than one that both have and use differently: the
    first is rare among trainings alike, and small; the second is neither.

    Parameters
    ----------
    groups : sequence of (R, frames)
        Trainings alike: how many, and what differs between the two runs of each of their R (R - 1) / 2 pairs.

    Returns
    -------
    DataFrame
        ``kind``, ``noise`` (`gigraph.method.contrast.between_trainings`) and ``freedom``, its degrees of freedom.
    """
    schema = {"kind": pl.String, "noise": pl.Float64, "freedom": pl.Float64}
    frames = [
        frame.select("kind", "difference", "se", of=pl.lit(number), trainings=pl.lit(trainings)).drop_nulls()
        for number, (trainings, pairs) in enumerate(groups)
        for frame in pairs
    ]
    rows = [
        {
            "kind": kind,
            "noise": between_trainings(
                part["difference"].to_numpy(), part["se"].to_numpy(), 2 / part["trainings"].to_numpy()
            ),
            "freedom": float((part.unique("of")["trainings"] - 1).sum()),
        }
        for (kind,), part in (pl.concat(frames).partition_by("kind", as_dict=True).items() if frames else ())
    ]
    return pl.DataFrame(rows, schema=schema)


def ranked(compared: pl.DataFrame, rate: float, noise: pl.DataFrame | None = None) -> pl.DataFrame:
    """Rank what differs, what both have and what only one has in one list; what is zero in every image is left out.

    Parameters
    ----------
    compared : DataFrame
        All that was compared.
    rate : float
        False discovery rate over all that is tested, which is what has a standard error.
    noise : DataFrame, optional
        Of `noise_of`: then p, q and at_least are of what a difference is beyond another training's.

    Returns
    -------
    DataFrame
        With `RANKED` in front. First what is kept, by what each difference at least is, in units of the noise of its
        kind (of the largest, where a kind's is not known); then the rest by how many of its errors, noise among them,
        each is (p would prefer what has larger errors over images, which have more degrees of freedom), and last what
        was not tested.
    """
    difference, se, df, p = (_numbers(compared, name) for name in ("difference", "se", "df", "p"))
    tau = np.full(len(compared), np.nan)
    if noise is not None and len(noise):
        told = compared.join(noise, on="kind", how="left", maintain_order="left")
        tau, freedom = (_numbers(told, name) for name in ("noise", "freedom"))
        wide = widened(difference, se, df, tau, freedom)
        # What is zero in every image differs in nothing, whatever the noise.
        there = ~np.isnan(tau) & ~((difference == 0) & (se == 0))
        se, df, p = (np.where(there, new, old) for new, old in zip(wide, (se, df, p), strict=True))
    q = false_discovery(p)
    least = at_least(difference, se, df, q, rate)
    columns = {"p": p, "q": q, "at_least": least, "noise": tau}
    found = compared.with_columns(pl.Series(name, values).fill_nan(None) for name, values in columns.items())
    scale = np.where(tau > 0, tau, np.nanmax(tau, initial=0) or 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(np.isnan(p) | (difference == 0), np.nan, np.abs(difference) / se)
    found = found.with_columns(
        size=pl.Series(np.abs(least) / scale), errors=pl.Series(errors).fill_nan(None), kept=pl.col("at_least") != 0
    )
    found = found.filter((pl.col("difference") != 0) | (pl.col("p") < 1))
    found = found.sort("size", "errors", descending=True, nulls_last=True, maintain_order=True)
    tested = pl.col("p").is_not_null()
    found = found.with_columns(pl.when(tested).then(tested.cum_sum()).cast(pl.Int64).alias("rank"))
    return found.select(*RANKED, *compared.columns)


def _numbers(frame: pl.DataFrame, column: str) -> np.ndarray:
    return frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
