"""From an image file of any kind to pixels the right way up, or the reason why there are none."""

from __future__ import annotations

import stat
import struct
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gigraph.foreign import foreign
from gigraph.images.listing import UNREAD

MAX_PIXELS = 100_000_000
BITS, LARGEST = 258, 281
"""Tags of a TIFF: BitsPerSample, MaxSampleValue."""
ARRAYS = ".npy"
"""Suffix of files that hold an array."""
Kind = Literal["8 bits", "deep", "real"]
"""What a file's numbers are: of 8 bits, of more than 8, or real ones."""
Picture = Image.Image | np.ndarray
"""A decoded image: a PIL image, RGB or grey; or float32 [H, W, C], where 0 is black and 1 white."""

# A context manager for it would not be safe in decoding threads.
warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")


class Unreadable(Exception):  # noqa: N818 - it is an answer about a file rather than a failure
    """A file that cannot be decoded, with the reason in a few words."""


def decode(path: Path | str, max_pixels: int = MAX_PIXELS, channels: int = 3) -> Picture:
    """Return the picture of a file: `decoded` without its kind."""
    return decoded(path, max_pixels, channels)[0]


def decoded(path: Path | str, max_pixels: int = MAX_PIXELS, channels: int = 3) -> tuple[Picture, Kind]:
    """Decode an image file completely.

    As RGB or grey: the first frame of an animation; turned upright as its EXIF says; grey of more bits scaled to 8,
    from the white that a TIFF names; palettes, CMYK and the rest converted; transparency laid on white; RGB also from
    three grey pages of a TIFF. As other numbers of channels: the channels of all pages one after the other, whatever
    they mean.

    Parameters
    ----------
    path : Path
        An image, or a .npy file with an array [H, W, C], [C, H, W] or, of one channel, [H, W]. Integers of 8 or 16 bits
        are scaled to [0, 1], real numbers taken as they are.
    max_pixels : int
        Larger images are rejected before they are decoded.
    channels : int
        1 (grey), 3 (RGB), or others.

    Returns
    -------
    picture : PIL image or float32 array [H, W, C]
        An array where it comes from one or has another number of channels than 1 and 3.
    kind : str
        What its numbers are.

    Raises
    ------
    Unreadable
        With the reason: missing, no file, empty, truncated, no image, too large, pixels without a meaning as colour, or
        another number of channels.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise Unreadable("a folder" if Path(path).is_dir() else "no file, but a device or a pipe")
        suffix = Path(path).suffix.lower()
        if suffix in UNREAD:  # some hold a small preview that would be taken for them
            raise Unreadable(f"{suffix} pictures are not read; save it as .png or .jpg")
        if suffix == ARRAYS:
            return _array(Path(path), max_pixels, channels)
        # Pillow's own limit stands at twice this number, and its warning says nothing beyond the check below.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
        with Image.open(path) as opened:
            if opened.width * opened.height > max_pixels:
                raise Unreadable(f"{opened.width}x{opened.height} pixels, above images.max_pixels ({max_pixels})")
            pages = getattr(opened, "n_frames", 1) if opened.format == "TIFF" else 1
            # Loading empties the tiles, whose raw mode says how many bits there were.
            kind: Kind = "deep" if opened.mode.startswith("I") or ";16" in str(opened.tile) else "8 bits"
            if channels not in (1, 3) or (pages == channels == 3 and len(opened.getbands()) == 1):
                return _channels(opened, pages, channels), kind
            opened.load()
            colour = _rgb(_upright(opened), white_of(opened))
            return colour.convert("L") if channels == 1 else colour, kind
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable("no such file") from None
    except UnidentifiedImageError:
        strange = foreign(Path(path))
        what = "empty file" if not Path(path).stat().st_size else f"not an image{f', but {strange}' if strange else ''}"
        raise Unreadable(what) from None
    except Image.DecompressionBombError:
        raise Unreadable(f"too many pixels, above images.max_pixels ({max_pixels})") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return image  # a damaged EXIF block says nothing about the way up


def white_of(image: Image.Image) -> int:
    """Return the number that is white in a picture of 16 bits: what a TIFF says of its range, else the largest."""
    tags: Any = getattr(image, "tag_v2", {})
    bits, largest = (tags.get(key) for key in (BITS, LARGEST))
    many = [value for value in (bits, largest) if value is not None]
    bits, largest = (value[0] if isinstance(value, tuple) else value for value in (bits or 16, largest or 0))
    known = largest if many and 255 < largest < 65535 else 2 ** min(max(bits, 8), 16) - 1
    return int(known) if known > 255 else 65535


def brightest(picture: Picture) -> float:
    """Return a picture's largest number, where 1 is white."""
    if isinstance(picture, np.ndarray):
        return float(picture.max())
    extrema: Any = picture.getextrema()
    return max(high for _, high in (extrema if isinstance(extrema[0], tuple) else [extrema])) / 255


def _rgb(image: Image.Image, white: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("32-bit integer pixels, whose white is unknown")
        white = white if values.max() <= white else 65535
        clear = values == image.info.get("transparency", -1)  # the one number that a PNG calls transparent
        values = np.where(clear, white, values)
        return Image.fromarray(((510 * values + white) // (2 * white)).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unreadable("floating-point pixels, whose white is unknown")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _channels(opened: Image.Image, pages: int, channels: int) -> np.ndarray:
    """Return the channels of an image's pages one after the other."""
    found = []
    white = white_of(opened)
    for page in range(pages):
        opened.seek(page)
        opened.load()
        one = _upright(opened)
        plain = one.convert("RGB") if one.mode in ("P", "PA") else one.convert("L") if one.mode == "1" else one
        values = np.asarray(plain)
        found.append(_scaled(values[..., None] if values.ndim == 2 else values, white))
    if len({one.shape[:2] for one in found}) > 1:
        raise Unreadable("pages of different sizes")
    joined = np.concatenate(found, 2)
    if joined.shape[2] != channels:
        raise Unreadable(f"{joined.shape[2]} channels, where preprocessing.channels is {channels}")
    return joined


def _array(path: Path, max_pixels: int, channels: int) -> tuple[np.ndarray, Kind]:
    """Return the array of a file as channels last, and what its numbers are."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise Unreadable("no .npy array" if path.stat().st_size else "empty file")
    values = np.load(path, mmap_mode="r", allow_pickle=False)  # first its shape alone
    shape = values.shape
    if values.ndim == 2 and channels == 1:
        values = values[..., None]
    elif values.ndim == 3 and shape[2] != channels == shape[0]:
        values = values.transpose(1, 2, 0)
    elif values.ndim != 3 or shape[2] != channels:
        raise Unreadable(
            f"an array of shape {list(shape)}, not [H, W, {channels}] or [{channels}, H, W]; see preprocessing.channels"
        )
    height, width = values.shape[:2]
    if not 0 < height * width <= max_pixels:
        raise Unreadable(f"{width}x{height} pixels, none or above images.max_pixels ({max_pixels})")
    kind: Kind = "real" if values.dtype.kind == "f" else "deep" if values.itemsize > 1 else "8 bits"
    return _scaled(np.array(values)), kind


def _scaled(values: np.ndarray, white: int = 65535) -> np.ndarray:
    """Return numbers as float32, those of 8 and 16 bits in [0, 1]."""
    kind = values.dtype
    if kind.kind in "bf":
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused below
            values = values.astype(np.float32)
    elif kind.kind == "u" and kind.itemsize <= 2:
        largest = np.iinfo(kind).max
        values = (values / (white if kind.itemsize == 2 and values.max() <= white else largest)).astype(np.float32)
    else:
        raise Unreadable(f"numbers of type {kind}, whose white is unknown; save uint8, uint16 or float32")
    if not np.isfinite(values).all():
        raise Unreadable("NaN or infinite numbers")
    return values


def size_of(picture: Picture) -> tuple[int, int]:
    """Return (width, height)."""
    return (picture.shape[1], picture.shape[0]) if isinstance(picture, np.ndarray) else picture.size


def visible(picture: Picture) -> Image.Image:
    """Return a picture as RGB for people to look at: of several channels the first three, or else the first as grey.

    Black is 0 or the image's smallest number, and white 1 or its largest.
    """
    if not isinstance(picture, np.ndarray):
        return picture.convert("RGB")
    shown = picture[..., :3] if picture.shape[2] >= 3 else picture[..., :1].repeat(3, 2)
    low, high = min(shown.min(), 0), max(shown.max(), 1)
    return Image.fromarray(((shown - low) / (high - low) * 255).round().astype(np.uint8))
