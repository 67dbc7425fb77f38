"""Image files: list a folder, decode what is found there, make network inputs.

Listing is quick and imports no torch, since Snakemake does it whenever it reads the workflow.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gigraph.errors import UserError
from gigraph.hashing import image_id

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
MAX_PIXELS = 100_000_000

# A context manager for it would not be safe in decoding threads.
warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")


# ---- listing -----------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An image file of the folder."""

    path: str
    """Relative to the folder, with ``/``."""
    class_name: str | None
    """Name of the sub-folder; None in a flat folder."""
    label: int
    """Index of the class among the sorted class names; -1 in a flat folder."""
    image_id: int
    size: int
    """Bytes; -1 where the file cannot be reached (a broken link)."""
    mtime_ns: int


def scan(folder: Path | str) -> list[Entry]:
    """List the images of a folder with one sub-folder per class, or of a flat folder.

    Parameters
    ----------
    folder : Path
        Classes are its sub-folders, in sorted order; images may lie deeper below them. Hidden files and
        folders are skipped, and links are followed unless they lead back to a folder they lie in.

    Returns
    -------
    list of Entry
        Sorted by class and path.

    Raises
    ------
    UserError
        If the folder is missing, no folder, unreadable or without images; if a class has no images, if there
        are images both beside and in class folders, if a name is not valid text, or if two paths have the
        same id.
    """
    root = Path(folder)
    if not root.exists():
        raise UserError(f"images.source: there is no folder {root}; correct the path (it is relative to {Path.cwd()})")
    if not root.is_dir():
        raise UserError(f"images.source: {root} is a file, not a folder; give the folder that holds the class folders")
    files, folders = _listed(root)
    home = _identity(root.stat())
    flat = [_entry(e, e.name, None, -1) for e in files]
    if flat and folders:
        raise UserError(
            f"images.source: {root} holds images ({flat[0].path}) beside class folders ({folders[0].name}); "
            "move them into a class folder"
        )
    entries = flat
    for label, entry in enumerate(folders):
        below = sorted(_below(Path(entry.path), f"{entry.name}/", entry.name, label, (home,)))
        if not below:
            raise UserError(f"images.source: class folder {entry.name} of {root} holds no images; fill or remove it")
        entries.extend(below)
    if not entries:
        raise UserError(f"images.source: {root} holds no images ({', '.join(sorted(s[1:] for s in SUFFIXES))})")
    _check_ids(entries)
    return entries


def _listed(folder: Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the image files and the sub-folders of a folder, each sorted by name, without hidden ones."""
    files, folders = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folders.append(entry)
                elif entry.name[entry.name.rfind(".") :].lower() in SUFFIXES:
                    files.append(entry)
    except OSError as error:
        raise UserError(f"images.source: {folder} cannot be read: {error.strerror}") from error
    return sorted(files, key=_name), sorted(folders, key=_name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as a file it is listed, and decoding reports it
        return False


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _below(
    folder: Path, prefix: str, class_name: str, label: int, above: tuple[tuple[int, int], ...]
) -> Iterator[Entry]:
    try:
        here = _identity(folder.stat())
    except OSError as error:
        raise UserError(f"images.source: {folder} cannot be read: {error.strerror}") from error
    if here in above:  # a link back to a folder that it lies in
        return
    files, folders = _listed(folder)
    for entry in files:
        yield _entry(entry, prefix + entry.name, class_name, label)
    for entry in folders:
        yield from _below(Path(entry.path), f"{prefix}{entry.name}/", class_name, label, (*above, here))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _entry(entry: os.DirEntry[str], path: str, class_name: str | None, label: int) -> Entry:
    try:
        status = entry.stat()
        size, changed = (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)
    except OSError:
        size, changed = -1, 0  # listed all the same, so that decoding reports it
    return Entry(path, class_name, label, image_id(path), size, changed)


def _check_ids(entries: Sequence[Entry]) -> None:
    first: dict[int, str] = {}
    for entry in entries:
        if not entry.path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in entry.path):
            raise UserError(f"images.source: the name of {entry.path!r} is not valid UTF-8; rename the file")
        other = first.setdefault(entry.image_id, entry.path)
        if other != entry.path:
            raise UserError(f"images.source: {other} and {entry.path} have the same id; rename one of them")


def listing_digests(entries: Iterable[Entry], shards: int) -> list[str]:
    """Return one short digest per shard of the images in it: path, size and time of change.

    Parameters
    ----------
    entries : iterable of Entry
        In any order.
    shards : int
        Number of shards; an image belongs to shard ``image_id % shards``.

    Returns
    -------
    list of str
        16 hexadecimal digits each.
    """
    lines: list[list[str]] = [[] for _ in range(shards)]
    for entry in entries:
        lines[entry.image_id % shards].append(f"{entry.path}\0{entry.size}\0{entry.mtime_ns}")
    return [
        hashlib.blake2b("\n".join(sorted(shard)).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        for shard in lines
    ]


def listing_digest(entries: Iterable[Entry], shard: int, shards: int) -> str:
    """Return one shard's digest; `listing_digests` gives all of them in one pass."""
    return listing_digests((e for e in entries if e.image_id % shards == shard), shards)[shard]


# ---- decoding ----------------------------------------------------------------------------------------------


class Unreadable(Exception):  # noqa: N818 - it is an answer about a file rather than a failure
    """A file that cannot be decoded, with the reason in a few words."""


def decode(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file completely.

    The first frame of an animation; turned upright as its EXIF says; 16-bit grey scaled to 8 bits; palettes,
    CMYK and the rest converted to RGB; transparency laid on white.

    Parameters
    ----------
    path : Path
    max_pixels : int
        Larger images are rejected before they are decoded.

    Returns
    -------
    PIL image
        RGB.

    Raises
    ------
    Unreadable
        With the reason: missing, no file, empty, truncated, no image, too large, pixels without a meaning as colour.
    """
    import PIL.Image

    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise Unreadable("no file, but a device or a pipe")
        # Pillow's own limit stands at twice this number, and its warning says nothing beyond the check below.
        PIL.Image.MAX_IMAGE_PIXELS = max(PIL.Image.MAX_IMAGE_PIXELS or 0, max_pixels)
        with PIL.Image.open(path) as opened:
            if opened.width * opened.height > max_pixels:
                raise Unreadable(f"{opened.width}x{opened.height} pixels, above images.max_pixels ({max_pixels})")
            opened.load()
            return _rgb(_upright(opened))
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable("no such file") from None
    except PIL.UnidentifiedImageError:
        raise Unreadable("empty file" if not Path(path).stat().st_size else "not an image") from None
    except PIL.Image.DecompressionBombError:
        raise Unreadable(f"too many pixels, above images.max_pixels ({max_pixels})") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return image  # a damaged EXIF block says nothing about the way up


def _rgb(image: Image) -> Image:
    import numpy as np
    import PIL.Image

    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("32-bit integer pixels, whose white is unknown")
        return PIL.Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unreadable("floating-point pixels, whose white is unknown")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


# ---- preprocessing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input, as torchvision's presets do it.

    Attributes
    ----------
    resize : int or None
        Length of the shorter side after resizing, in pixels; None: no resizing.
    crop : int or None
        Side of the centre crop, in pixels; None: no crop.
    mean, std : tuple of float
        Subtracted and divided by per channel, for pixels in [0, 1].
    interpolation : str
        ``bilinear``, ``bicubic`` or ``nearest``.
    antialias : bool
        Whether resizing averages what lies between the sampled pixels.

    Raises
    ------
    UserError
        If a setting is impossible.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.interpolation not in {"bilinear", "bicubic", "nearest"}:
            raise UserError(
                f"preprocessing.interpolation: {self.interpolation!r} is none of bilinear, bicubic, nearest"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError("preprocessing: mean and std need three numbers each, those of std above 0")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise UserError(
                f"preprocessing.crop ({self.crop}) is larger than preprocessing.resize ({self.resize}): "
                "images would get a black frame; raise resize"
            )

    @classmethod
    def from_preset(cls, preset: Mapping[str, Any] | None, **overrides: Any) -> Preprocessing:
        """Return a preset (see `gigraph.model.models.preset_of`) with the settings that are given laid over it."""
        settings = dict(preset or {}) | {key: value for key, value in overrides.items() if value is not None}
        for key in ("mean", "std"):
            if key in settings:
                settings[key] = tuple(settings[key])
        return cls(**settings)

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) after resizing; the longer side is rounded down."""
        width, height = size
        if self.resize is None:
            return size
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def _corner(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (left, top) of the crop in the resized image."""
        assert self.crop is not None
        # Rounded as torchvision does: half to even.
        return round((size[0] - self.crop) / 2.0), round((size[1] - self.crop) / 2.0)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) of the network's input for an image of this (width, height)."""
        return (self.crop, self.crop) if self.crop is not None else self._resized(size)

    def crop_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return what the network sees of an image, as a box in the image's own pixels.

        Parameters
        ----------
        size : tuple of int
            (width, height) of the decoded image, before resizing.

        Returns
        -------
        tuple of float
            Left, top, right, bottom; u in [0, 1] across the network's input is at left + u (right - left).
        """
        width, height = self._resized(size)
        x, y = size[0] / width, size[1] / height
        if self.crop is None:
            return 0.0, 0.0, float(size[0]), float(size[1])
        left, top = self._corner((width, height))
        return left * x, top * y, (left + self.crop) * x, (top + self.crop) * y

    def display(self, image: Image, name: str = "an image") -> Image:
        """Return an image exactly as the network sees it, before normalisation.

        Parameters
        ----------
        image : PIL image
            RGB.
        name : str
            What to call it in messages.

        Returns
        -------
        PIL image

        Raises
        ------
        UserError
            If the image is smaller than the crop.
        """
        from PIL.Image import Resampling

        size = self._resized(image.size)
        if self.crop is not None and min(size) < self.crop:
            raise UserError(
                f"{name} is {image.width}x{image.height}, smaller than preprocessing.crop ({self.crop}); "
                f"set preprocessing.resize to {self.crop} or more"
            )
        if size != image.size:
            if self.antialias:
                image = image.resize(size, Resampling[self.interpolation.upper()])
            else:
                image = _resized_without_antialias(image, size, self.interpolation)
        if self.crop is None:
            return image
        left, top = self._corner(size)
        return image.crop((left, top, left + self.crop, top + self.crop))

    def stack(self, pictures: Sequence[Image | np.ndarray]) -> Tensor:
        """Return the network's inputs for pictures of one size, as `display` returns them.

        Returns
        -------
        Tensor of float32 [N, 3, H, W]
            With channels last in memory, as in pictures.
        """
        import numpy as np
        import torch

        from gigraph.vision import torchvision

        tv = torchvision.transforms.functional
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
        return tv.normalize(tv.convert_image_dtype(pixels), list(self.mean), list(self.std))


def _resized_without_antialias(image: Image, size: tuple[int, int], interpolation: str) -> Image:
    from gigraph.vision import torchvision

    tv = torchvision.transforms.functional
    pixels = tv.resize(
        tv.pil_to_tensor(image),
        [size[1], size[0]],
        interpolation=torchvision.transforms.InterpolationMode(interpolation),
        antialias=False,
    )
    return tv.to_pil_image(pixels)


# ---- batches -----------------------------------------------------------------------------------------------


def batches(
    images: Iterable[tuple[int, Path]],
    preprocessing: Preprocessing,
    batch_size: int = 32,
    workers: int = 2,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Decode images ahead of their use and stack them.

    Parameters
    ----------
    images : iterable of (image_id, path)
        Readable images, in the order in which they are to come.
    preprocessing : Preprocessing
    batch_size : int
        Images per batch; the last one may be smaller.
    workers : int
        Decoding threads; 0 decodes in the caller's.
    size : tuple of int or None
        (height, width) that every input must have; None: that of the first image.
    max_pixels : int
        See `decode`.

    Yields
    ------
    ids : array of int64 [N]
    inputs : Tensor of float32 [N, 3, H, W]
        See `Preprocessing.stack`.

    Raises
    ------
    UserError
        If an image cannot be decoded any more, is smaller than the crop, or gives an input of another size.
    """
    import numpy as np

    def one(path: Path) -> Image:
        try:
            image = decode(path, max_pixels)
        except Unreadable as error:
            raise UserError(f"image {path} cannot be read any more: {error}; list the images anew") from None
        return preprocessing.display(image, f"image {path}")

    def stacked(ids: list[int], pictures: list[tuple[Path, Image]]) -> tuple[np.ndarray, Tensor]:
        nonlocal size
        for path, picture in pictures:
            size = size or (picture.height, picture.width)
            if (picture.height, picture.width) != tuple(size):
                raise UserError(
                    f"image {path} gives an input of {picture.width}x{picture.height}, others {size[1]}x{size[0]}; "
                    "set preprocessing.resize and preprocessing.crop"
                )
        return np.array(ids, dtype=np.int64), preprocessing.stack([picture for _, picture in pictures])

    ids: list[int] = []
    ready: list[tuple[Path, Image]] = []
    for identity, path, picture in _ahead(images, one, workers, 2 * batch_size):
        ids.append(identity)
        ready.append((path, picture))
        if len(ids) == batch_size:
            yield stacked(ids, ready)
            ids, ready = [], []
    if ids:
        yield stacked(ids, ready)


def _ahead(images: Iterable[tuple[int, Path]], one: Any, workers: int, depth: int) -> Iterator[tuple[int, Path, Any]]:
    """Yield (id, path, one(path)) in order, with up to `depth` paths being worked on ahead."""
    if workers == 0:
        for identity, path in images:
            yield identity, path, one(path)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[tuple[int, Path, Future[Any]]] = deque()
    try:
        for identity, path in images:
            waiting.append((identity, path, pool.submit(one, path)))
            if len(waiting) > depth:
                identity, path, future = waiting.popleft()
                yield identity, path, future.result()
        while waiting:
            identity, path, future = waiting.popleft()
            yield identity, path, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
