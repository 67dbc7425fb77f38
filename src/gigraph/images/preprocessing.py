"""From decoded images to the network's inputs, in batches that are read ahead of their use.

The network's view of an image needs Pillow alone; torch is imported where inputs are made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Resampling, fromarray, new

from gigraph.errors import UserError
from gigraph.images.decoding import MAX_PIXELS, Picture, Unreadable, decode, size_of

if TYPE_CHECKING:
    from torch import Tensor


def resized_pixels(size: tuple[int, int], resize: int) -> int:
    """Return how many pixels an image of this (width, height) has once its shorter side is resized."""
    short, long = sorted(size)
    return resize * (resize * long // short)


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input, as the presets of torchvision and timm do it.

    Attributes
    ----------
    resize : int, (height, width) or None
        Length of the shorter side after resizing, in pixels, or the sizes that `way` speaks of; None: no resizing.
    crop : int, (height, width) or None
        Of the centre crop, in pixels; None: no crop.
    mean, std : tuple of float
        Subtracted and divided by per channel, for pixels in [0, 1]; empty: neither.
    interpolation : str
        ``bilinear``, ``bicubic`` or ``nearest``.
    antialias : bool
        Whether resizing averages what lies between the sampled pixels.
    channels : int
        Of the network's input; 0: as many as `mean` or `std` has numbers, else 3.
    way : str
        How resizing treats the sides: ``center`` keeps their ratio and covers `resize`, ``border`` keeps it and stays
        within, ``squash`` gives both the length that `resize` says.
    pads : bool
        Whether what is smaller than the crop gets a frame: of the mean's colour by ``border``, else black.

    Raises
    ------
    UserError
        If a setting is impossible.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: str = "bilinear"
    antialias: bool = True
    channels: int = 0
    way: str = "center"
    pads: bool = False

    def __post_init__(self) -> None:
        channels = self.channels or len(self.mean or self.std or "rgb")
        plain = {"channels": channels, "mean": self.mean or (0.0,) * channels, "std": self.std or (1.0,) * channels}
        for key, value in plain.items():
            object.__setattr__(self, key, value)
        if self.interpolation not in {"bilinear", "bicubic", "nearest"}:
            raise UserError(
                f"preprocessing.interpolation: {self.interpolation!r} is none of bilinear, bicubic, nearest"
            )
        if not len(self.mean) == len(self.std) == channels or min(self.std) <= 0:
            raise UserError(
                f"preprocessing: mean and std need a number for each channel ({channels}), those of std above 0; where "
                "the weights' own have others, set both"
            )
        if isinstance(self.resize, int) and self.window and max(self.window) > self.resize and not self.pads:
            raise UserError(
                f"preprocessing.crop ({self.crop}) is larger than preprocessing.resize ({self.resize}): "
                "images would get a black frame; raise resize"
            )

    @classmethod
    def from_preset(cls, preset: Mapping[str, Any] | None, **overrides: Any) -> Preprocessing:
        """Return a preset (see `gigraph.model.models.preset_of`) with the settings that are given laid over it."""
        given = {key: value for key, value in overrides.items() if value is not None}
        settings = dict(preset or {}) | given
        if {"resize", "crop"} & {*given}:  # the shorter side and the centre, as the configuration's keys say
            settings |= {"way": "center", "pads": False}
            for key in ("resize", "crop"):
                sides = settings.get(key)
                if isinstance(sides, tuple):
                    if len(set(sides)) > 1:
                        raise UserError(
                            f"preprocessing: the preset's own {key} is {sides[1]}x{sides[0]}, no square; set "
                            "resize and crop both, or neither"
                        )
                    settings[key] = sides[0]
        for key in ("mean", "std"):
            if key in settings:
                settings[key] = tuple(settings[key])
        return cls(**settings)

    @property
    def window(self) -> tuple[int, int] | None:
        """(width, height) of the crop; None: no crop."""
        if self.crop is None or isinstance(self.crop, int):
            return None if self.crop is None else (self.crop, self.crop)
        return self.crop[1], self.crop[0]

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) after resizing; of a ``center`` the longer side is rounded down."""
        width, height = size
        if self.resize is None:
            return size
        if isinstance(self.resize, int):
            if width <= height:
                return self.resize, int(self.resize * height / width)
            return int(self.resize * width / height), self.resize
        rows, columns = self.resize
        if self.way == "squash":
            return columns, rows
        ratios = width / columns, height / rows
        ratio = max(ratios) if self.way == "border" else min(ratios)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def _corner(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (left, top) of the crop in the resized image; negative where there is a frame."""
        assert self.window is not None
        # Rounded as torchvision does: half to even; a frame is a pixel wider at the right and at the bottom.
        left, top = (
            round((side - crop) / 2.0) if side >= crop else -((crop - side) // 2)
            for side, crop in zip(size, self.window, strict=True)
        )
        return left, top

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) of the network's input for an image of this (width, height)."""
        return self.window or self._resized(size)

    def crop_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return what the network sees of an image, as a box in the image's own pixels.

        Parameters
        ----------
        size : tuple of int
            (width, height) of the decoded image, before resizing.

        Returns
        -------
        tuple of float
            Left, top, right, bottom; u in [0, 1] across the network's input is at left + u (right - left). With a frame
            it goes beyond the image.
        """
        width, height = self._resized(size)
        x, y = size[0] / width, size[1] / height
        if self.window is None:
            return 0.0, 0.0, float(size[0]), float(size[1])
        left, top = self._corner((width, height))
        return left * x, top * y, (left + self.window[0]) * x, (top + self.window[1]) * y

    def display(self, image: Picture, name: str = "an image") -> Picture:
        """Return an image exactly as the network sees it, before normalisation.

        Parameters
        ----------
        image : PIL image or array [H, W, C]
            As `gigraph.images.decoding.decode` returns it.
        name : str
            What to call it in messages.

        Returns
        -------
        PIL image or array [H, W, C]
            Of the kind that was given.

        Raises
        ------
        UserError
            If the image is smaller than the crop, or so thin that it would be larger than any after resizing.
        """
        width, height = size_of(image)
        size = self._resized((width, height))
        window = self.window
        framed = window is not None and (size[0] < window[0] or size[1] < window[1])
        if framed and not self.pads:
            raise UserError(
                f"{name} is {width}x{height}, smaller than preprocessing.crop ({self.crop}); "
                f"set preprocessing.resize to {self.crop} or more"
            )
        if size[0] * size[1] > max(MAX_PIXELS, width * height):
            raise UserError(
                f"{name} is {width}x{height}, and {size[0]}x{size[1]} once its shorter side is as preprocessing.resize "
                "says: too thin; cut or remove it"
            )
        if size != (width, height):
            way = Resampling[self.interpolation.upper()]
            if not self.antialias:
                image = _resized_without_antialias(image, size, self.interpolation)
            elif isinstance(image, np.ndarray):
                channels = np.moveaxis(np.ascontiguousarray(image, np.float32), 2, 0)
                image = np.stack([np.asarray(fromarray(one).resize(size, way)) for one in channels], 2)
            else:
                image = image.resize(size, way)
        if window is None:
            return image
        left, top = self._corner(size)
        if framed:
            return self._framed(image, left, top)
        if isinstance(image, np.ndarray):
            return image[top : top + window[1], left : left + window[0]]
        return image.crop((left, top, left + window[0], top + window[1]))

    def _framed(self, image: Picture, left: int, top: int) -> Picture:
        """Return the crop of an image that does not fill it."""
        assert self.window is not None
        width, height = self.window
        colour = [round(255 * value) for value in self.mean] if self.way == "border" else [0] * self.channels
        if not isinstance(image, np.ndarray):
            frame = new(image.mode, (width, height), tuple(colour) if len(colour) > 1 else colour[0])
            frame.paste(image, (-left, -top))
            return frame
        around = np.empty((height, width, image.shape[2]), np.float32)
        around[:] = np.array(colour, np.float32) / 255
        inside = image[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
        y, x = max(-top, 0), max(-left, 0)
        around[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return around

    def stack(self, pictures: Sequence[Picture]) -> Tensor:
        """Return the network's inputs for pictures of one size, as `display` returns them.

        Returns
        -------
        Tensor of float32 [N, C, H, W]
            With channels last in memory, as in pictures.
        """
        import torch

        from gigraph.vision import torchvision

        tv = torchvision.transforms.functional
        # Each by itself: 8 bits a channel and numbers of other kinds may lie in one batch.
        arrays = [np.atleast_3d(np.asarray(picture)) for picture in pictures]
        pixels = torch.stack([tv.convert_image_dtype(torch.from_numpy(np.array(one))) for one in arrays])
        return tv.normalize(pixels.permute(0, 3, 1, 2), list(self.mean), list(self.std))


def _resized_without_antialias(image: Picture, size: tuple[int, int], interpolation: str) -> Picture:
    from gigraph.vision import torchvision

    tv = torchvision.transforms.functional
    array = isinstance(image, np.ndarray)
    pixels = tv.resize(
        tv.to_tensor(image) if array else tv.pil_to_tensor(image),
        [size[1], size[0]],
        interpolation=torchvision.transforms.InterpolationMode(interpolation),
        antialias=False,
    )
    return pixels.permute(1, 2, 0).numpy() if array else tv.to_pil_image(pixels)


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
    inputs : Tensor of float32 [N, C, H, W]
        See `Preprocessing.stack`.

    Raises
    ------
    UserError
        If an image cannot be decoded any more, is smaller than the crop, or gives an input of another size.
    """

    def one(path: Path) -> Picture:
        try:
            image = decode(path, max_pixels, preprocessing.channels)
        except Unreadable as error:
            raise UserError(f"image {path} cannot be read any more: {error}; list the images anew") from None
        return preprocessing.display(image, f"image {path}")

    def stacked(ids: list[int], pictures: list[tuple[Path, Picture]]) -> tuple[np.ndarray, Tensor]:
        nonlocal size
        for path, picture in pictures:
            width, height = size_of(picture)
            size = size or (height, width)
            if (height, width) != tuple(size):
                raise UserError(
                    f"image {path} gives an input of {width}x{height}, others {size[1]}x{size[0]}; "
                    "set preprocessing.resize and preprocessing.crop"
                )
        return np.array(ids, dtype=np.int64), preprocessing.stack([picture for _, picture in pictures])

    ids: list[int] = []
    ready: list[tuple[Path, Picture]] = []
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
