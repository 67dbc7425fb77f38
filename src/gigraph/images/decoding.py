"""From an image file of any kind to RGB pixels the right way up, or the reason why there are none."""

from __future__ import annotations

import stat
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 100_000_000

# A context manager for it would not be safe in decoding threads.
warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")


class Unreadable(Exception):  # noqa: N818 - it is an answer about a file rather than a failure
    """A file that cannot be decoded, with the reason in a few words."""


def decode(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image.Image:
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
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise Unreadable("no file, but a device or a pipe")
        # Pillow's own limit stands at twice this number, and its warning says nothing beyond the check below.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
        with Image.open(path) as opened:
            if opened.width * opened.height > max_pixels:
                raise Unreadable(f"{opened.width}x{opened.height} pixels, above images.max_pixels ({max_pixels})")
            opened.load()
            return _rgb(_upright(opened))
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable("no such file") from None
    except UnidentifiedImageError:
        raise Unreadable("empty file" if not Path(path).stat().st_size else "not an image") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"too many pixels, above images.max_pixels ({max_pixels})") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return image  # a damaged EXIF block says nothing about the way up


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("32-bit integer pixels, whose white is unknown")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unreadable("floating-point pixels, whose white is unknown")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")
