"""Images that two runs are compared on: those that both have, by content; else those of the first, seen by both."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from gigraph.differences.finished import Finished
from gigraph.errors import UserError
from gigraph.hashing import file_digest

LOOKED_AT = 200
"""Images that both models run on."""


@dataclass(frozen=True)
class Common:
    """Images that both runs can look at.

    Attributes
    ----------
    images : DataFrame
        ``a``, ``b`` (their ids in either run, the second null where only the first has them), ``path`` in the first
        run's folder, ``width`` and ``height``, ``class`` and ``label_a``, ``label_b`` (null where the second run has no
        such class).
    shared : bool
        Whether both runs have them.
    """

    images: pl.DataFrame
    shared: bool

    def spread(self, count: int) -> pl.DataFrame:
        """Return at most `count` images, as many of each class as can be, by their ids; ordered by class."""
        ranked = self.images.sort("a").with_columns(pl.int_range(pl.len()).over("class").alias("turn"))
        return ranked.sort("turn", "class").head(count).sort("class", "a").drop("turn")

    def partners(self) -> pl.DataFrame:
        """Return the ids ``a``, ``b`` of the images that both runs have."""
        return self.images.select("a", "b").drop_nulls()


def common_images(one: Finished, two: Finished) -> Common:
    """Find the images that two runs are compared on.

    Raises
    ------
    UserError
        If they share no image and no class, or an image file is gone.
    """
    pairs = _same_content(one, two)
    shared = bool(len(pairs))
    frame = one.images.select(
        pl.col("image_id").alias("a"), "path", "width", "height", pl.col("label").alias("label_a"), "class"
    )
    frame = frame.join(pairs, on="a") if shared else frame.with_columns(pl.lit(None, pl.Int64).alias("b"))
    labels = pl.DataFrame(
        {"class": [*two.names], "label_b": [*two.names.values()]}, {"class": str, "label_b": pl.Int32}
    )
    frame = frame.join(labels, on="class", how="left")
    if not shared and frame["label_b"].is_null().all():
        raise UserError(
            f"{one.folder} and {two.folder} have no image and no class in common, so that nothing can be compared; "
            "give two runs of the same images, or of the same classes"
        )
    return Common(frame if shared else frame.filter(pl.col("label_b").is_not_null()), shared)


def _same_content(one: Finished, two: Finished) -> pl.DataFrame:
    """Return the ids of the images of equal content, ``a`` and ``b``; of equal ones in a run the first."""
    first, second = (run.images.select("image_id", "path", "width", "height") for run in (one, two))
    if one.image_folder.resolve() == two.image_folder.resolve():
        found = first.join(second, on="path", suffix="_b").select(a="image_id", b="image_id_b")
        return found.sort("a")
    # Only what has an equal number of pixels and bytes in the other run is read.
    size = ["width", "height", "bytes"]
    first, second = (
        frame.with_columns(pl.Series("bytes", _sizes(run, frame), pl.Int64))
        for run, frame in ((one, first), (two, second))
    )
    first, second = first.join(second, on=size, how="semi"), second.join(first, on=size, how="semi")
    first, second = (
        frame.with_columns(pl.Series("content", _digests(run, frame), pl.String)).unique("content", keep="first")
        for run, frame in ((one, first), (two, second))
    )
    return first.join(second, on="content", suffix="_b").select(a="image_id", b="image_id_b").sort("a")


def _sizes(run: Finished, frame: pl.DataFrame) -> list[int]:
    return [_checked(run, path) for path in frame["path"]]


def _checked(run: Finished, path: str) -> int:
    file = run.image_folder / path
    try:
        return file.stat().st_size
    except OSError:
        raise UserError(
            f"{run.folder}: its image {file} is gone; restore it, or start gigraph where snakemake was started"
        ) from None


def _digests(run: Finished, frame: pl.DataFrame) -> list[str]:
    return [file_digest(run.image_folder / path) for path in frame["path"]]
