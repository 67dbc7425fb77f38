"""Scenes as files: a PNG ImageFolder, and beside it what is true of each picture.

A written folder holds

* ``<class>/<split>-00012.png``: the pictures, for torchvision's ImageFolder or gigraph's own reader;
* ``factors.parquet``: a row per picture: ``path`` (relative), ``split``, ``index``, ``class``, the parts'
  values, the place, whether there are the cue and the shortcut, every nuisance, and the ``seed`` and ``size``
  that draw it again;
* ``masks.parquet``: ``path``, ``split`` and ``mask``, an indexed PNG whose values are positions in
  the world's `owners` and whose palette makes it a picture. A table, since ImageFolder takes any folder for a class.

Every file is written under a temporary name and renamed, and ``factors.parquet`` comes last. A folder may
hold several splits; one process at a time may write to it.
"""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gigraph import orphans
from gigraph.errors import UserError
from gigraph.worlds.canvas import SIDE, oklch
from gigraph.worlds.scene import Scene
from gigraph.worlds.world import World

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Task = TypeVar("Task")
Result = TypeVar("Result")

SMALLEST = 32


def write(
    world: World,
    folder: str | Path,
    split: str,
    count: int,
    *,
    seed: int = 0,
    size: int = SIDE,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write the first `count` scenes of a split; other splits in the folder stay as they are.

    Parameters
    ----------
    world : World
        What is drawn.
    folder : path
        Made if need be.
    split : str
        Name of the split (no ``/``); names are part of the random keys, so splits never share a scene.
    count : int
        Number of pictures. Classes take turns, so multiples of their number are balanced.
    seed, size, workers : int
        Seed of the scenes, side of the pictures in pixels, processes to draw with. The bytes do not depend
        on `workers`.
    progress : callable, optional
        Called with (done, count) now and then; a line is logged for each tenth otherwise.

    Returns
    -------
    Path
        Of ``factors.parquet``.
    """
    if not split or "/" in split or split != split.strip(". "):
        raise UserError(f"{world.name}: split {split!r} cannot be part of a file's name; use e.g. train or test")
    if count < 1:
        raise UserError(f"{world.name}: a split of {count} images cannot be written; ask for at least 1")
    if size < SMALLEST:
        raise UserError(f"{world.name}: size {size} is too small to show the parts; use {SMALLEST} or more")
    folder = Path(folder)
    for name in world.classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    drawn = list(world.scenes(seed, split, count))
    tasks = [(str(folder), one, size) for one in drawn]
    masks = _in_parallel(partial(_write_one, world), tasks, workers, progress or _tenths(f"drawing {split}"))
    paths = [path_of(one) for one in drawn]
    for path in {path.relative_to(folder).as_posix() for path in folder.glob(f"*/{split}-*.png")} - set(paths):
        (folder / path).unlink()  # Left over from a larger split of this name.
    _merge(folder / "masks.parquet", split, _mask_table(world, split, paths, list(masks)))
    rows = [
        {"path": path} | world.factors(one) | {"seed": seed, "size": size}
        for path, one in zip(paths, drawn, strict=True)
    ]
    _merge(folder / "factors.parquet", split, pa.Table.from_pylist(rows))
    return folder / "factors.parquet"


def path_of(scene: Scene) -> str:
    """Return a scene's path relative to the folder."""
    return f"{scene.name}/{scene.split}-{scene.index:05d}.png"


def read_scenes(world: World, folder: str | Path) -> dict[str, Scene]:
    """Return path -> scene of every picture in a written folder, to be edited and drawn again."""
    table = pq.read_table(Path(folder) / "factors.parquet", columns=["path", "seed", "split", "index"])
    return {row["path"]: world.scene(row["seed"], row["split"], row["index"]) for row in table.to_pylist()}


def read_masks(folder: str | Path, paths: Iterable[str] | None = None) -> np.ndarray:
    """Return who owns each pixel (positions in the world's `owners`) as uint8 [n, size, size].

    Parameters
    ----------
    folder : path
        A folder that `write` wrote.
    paths : iterable of str, optional
        Which pictures, relative to the folder and in this order; all, in the table's order, by default.
    """
    table = pq.read_table(Path(folder) / "masks.parquet", columns=["path", "mask"])
    stored = dict(zip(table["path"].to_pylist(), table["mask"].to_pylist(), strict=True))
    wanted = list(stored if paths is None else paths)
    missing = [path for path in wanted if path not in stored]
    if missing:
        raise UserError(f"{folder}/masks.parquet has no mask of {missing[0]}; write the split again")
    return np.stack([np.asarray(Image.open(io.BytesIO(stored[path]))) for path in wanted])


def render(
    world: World, which: Sequence[Scene], *, size: int = SIDE, workers: int = 1, progress: Progress | None = None
) -> np.ndarray:
    """Paint scenes in memory; returns uint8 [n, size, size, 3]."""
    tasks = [(one, size) for one in which]
    images = np.empty((len(tasks), size, size, 3), np.uint8)
    for i, image in enumerate(_in_parallel(partial(_render_one, world), tasks, workers, progress)):
        images[i] = image
    return images


def labelled(
    world: World,
    split: str,
    count: int,
    *,
    seed: int = 0,
    size: int = SIDE,
    workers: int = 1,
    rate: float | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a split in memory; returns images uint8 [n, size, size, 3] and classes int64 [n].

    With `rate`, that share of the shortcut's class has the shortcut, in place of the world's own.
    """
    which = list(world.scenes(seed, split, count, rate))
    return render(world, which, size=size, workers=workers, progress=progress), world.numbers(which)


def _render_one(world: World, task: tuple[Scene, int]) -> np.ndarray:
    return world.paint(*task)[0]


def _write_one(world: World, task: tuple[str, Scene, int]) -> bytes:
    """Write one picture and return its mask as an indexed PNG."""
    folder, one, size = task
    image, owner = world.paint(one, size)
    target = Path(folder) / path_of(one)
    temporary = target.with_name(f".{target.name}.partial")
    temporary.write_bytes(_png(Image.fromarray(image)))
    temporary.replace(target)
    mask = Image.fromarray(owner, mode="P")
    mask.putpalette(_palette(len(world.places), len(world.owners)))
    return _png(mask)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _palette(places: int, owners: int) -> bytes:
    """Return colours for the owners: dim for the places, bright and far apart in hue for the parts."""
    colours = [
        oklch(0.35, 0.03, i / places) if i < places else oklch(0.6 + 0.1 * (i % 4), 0.15, 0.381966 * i)
        for i in range(owners)
    ]
    return np.rint(np.stack(colours) * 255).astype(np.uint8).tobytes()


def _mask_table(world: World, split: str, paths: list[str], masks: list[bytes]) -> pa.Table:
    table = pa.table({"path": paths, "split": [split] * len(paths), "mask": pa.array(masks, pa.binary())})
    return table.replace_schema_metadata({"owners": ",".join(world.owners)})


def _merge(target: Path, split: str, table: pa.Table) -> None:
    """Put a split's rows into a table, in place of those it had and beside the other splits'."""
    if target.exists():
        old = pq.read_table(target)
        kept = old.filter(pa.compute.not_equal(old["split"], split))
        table = pa.concat_tables([kept.replace_schema_metadata(table.schema.metadata), table])
    table = table.sort_by("path")
    temporary = target.with_name(f".{target.name}.partial")
    pq.write_table(table, temporary)
    temporary.replace(target)


def _tenths(what: str) -> Progress:
    def report(done: int, count: int) -> None:
        if done == count or done * 10 // count != (done - 1) * 10 // count:
            log.info("%s: %d of %d", what, done, count)

    return report


def _in_parallel(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, progress: Progress | None
) -> Iterator[Result]:
    """Yield the results in the order of the tasks, whatever the number of processes."""
    if workers <= 1 or len(tasks) < 2 * workers:
        yield from _counted(map(function, tasks), len(tasks), progress)
        return
    # Forked workers, since spawned ones import the caller's main script again, which Snakemake's scripts do
    # not survive. The workers only use NumPy and Pillow, which start no threads.
    method: Any = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, context, _help, (os.getpid(),)) as pool:
        chunk = max(1, min(32, len(tasks) // (4 * workers)))
        yield from _counted(pool.map(function, tasks, chunksize=chunk), len(tasks), progress)


def _help(parent: int) -> None:
    """Begin as a worker: an interruption is its parent's business, which ends it."""
    orphans.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _counted(results: Iterator[Result], count: int, progress: Progress | None) -> Iterator[Result]:
    for done, result in enumerate(results, 1):
        if progress is not None:
            progress(done, count)
        yield result
