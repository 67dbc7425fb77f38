"""Tiles that show a concept, a PFV's image cropped to its iERF; and maps of where a concept is in an image.

Pure: images and maps are arrays; reading files and writing sheets is the scripts' work.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

CONTEXT = 0.38
"""Brightness left to what lies outside the iERF."""
FACE = 4
"""Tiles on the face of a concept in a graph."""
FACE_SIDE = 64
"""Side of these tiles in pixels: graphs show many, and show them small."""


def spread_box(field: np.ndarray, share: float = 0.9, least: int = 16) -> tuple[int, int, int, int]:
    """Return the smallest square, centred on the field's mass, that holds a share of it.

    Parameters
    ----------
    field : array of float [H, W]
        Non-negative weights, such as |iERF|.
    share : float
        Of the mass.
    least : int
        Smallest side in pixels.

    Returns
    -------
    left, top, right, bottom : int
        Inside the image.
    """
    height, width = field.shape
    total = field.sum()
    if not total > 0:
        return 0, 0, width, height
    rows, columns = np.arange(height), np.arange(width)
    cy, cx = field.sum(1) @ rows / total, field.sum(0) @ columns / total
    # Few distances occur: the mass at each is added up, instead of sorting all pixels.
    radii, ring = np.unique(np.concatenate([np.abs(rows - cy), np.abs(columns - cx)]), return_inverse=True)
    rings = np.maximum.outer(ring[:height], ring[height:]).ravel()
    mass = np.cumsum(np.bincount(rings, field.ravel(), len(radii)))
    half = radii[min(np.searchsorted(mass, share * total), len(radii) - 1)] + 0.5
    side = int(min(max(round(2 * half), least), height, width))
    left = int(np.clip(round(cx + 0.5 - side / 2), 0, width - side))
    top = int(np.clip(round(cy + 0.5 - side / 2), 0, height - side))
    return left, top, left + side, top + side


def field_weights(relevance: np.ndarray, blur: float) -> np.ndarray:
    """Return the iERF as weights in [0, 1]: |R| blurred by a Gaussian and divided by its 99th percentile [H, W]."""
    magnitude = np.abs(relevance)
    peak = magnitude.max()
    if not peak > 0:
        return np.zeros_like(magnitude)
    image = Image.fromarray((magnitude / peak).astype(np.float32), mode="F")
    smooth = np.asarray(_blur(image, blur))
    return np.clip(smooth / max(np.quantile(smooth, 0.99), 1e-12), 0, 1)


def _blur(image: Image.Image, radius: float) -> Image.Image:
    # Pillow's Gaussian works on 8-bit images only.
    scaled = Image.fromarray((np.asarray(image) ** 0.5 * 255).astype(np.uint8))
    return scaled.filter(ImageFilter.GaussianBlur(radius))


def dim(image: Image.Image, weights: np.ndarray) -> Image.Image:
    """Return the image at full brightness where the weights [H, W] are 1 and dimmed where they are 0."""
    mask = Image.fromarray((np.clip(weights, 0, 1) * 255).astype(np.uint8)).resize(
        image.size, Image.Resampling.BILINEAR
    )
    pixels = np.asarray(image, np.float32)
    grey = pixels.mean(2, keepdims=True)
    dark = CONTEXT * (0.35 * pixels + 0.65 * grey)
    alpha = np.asarray(mask, np.float32)[..., None] / 255
    return Image.fromarray((alpha * pixels + (1 - alpha) * dark).round().astype(np.uint8))


def exemplar_tile(
    image: Image.Image, relevance: np.ndarray, side: int
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Return a PFV's tile: the image cropped to the iERF with the context dimmed, and the crop's box.

    Parameters
    ----------
    image : PIL image
        As the network sees it, of H x W pixels.
    relevance : array [H, W]
        The PFV's iERF.
    side : int
        Side of the tile in pixels.
    """
    height, width = relevance.shape
    weights = field_weights(relevance, blur=max(height, width) / 64)
    left, top, right, _ = spread_box(np.where(weights > 0.1, weights, 0), least=max(height, width) // 4)
    margin = (right - left) // 8
    side_in = min(right - left + 2 * margin, height, width)
    left = int(np.clip(left - margin, 0, width - side_in))
    top = int(np.clip(top - margin, 0, height - side_in))
    box = (left, top, left + side_in, top + side_in)
    # Saturate early: what matters at all is shown at full brightness.
    inside = np.clip(weights[top : box[3], left : box[2]] * 2.5, 0, 1)
    return dim(image.crop(box), inside).resize((side, side), Image.Resampling.LANCZOS), box


def coefficient_map(indptr: np.ndarray, concepts: np.ndarray, values: np.ndarray, concept: int) -> np.ndarray:
    """Return the coefficients of one concept at each position [P] from CSR rows; those of a family are added up."""
    hit = concepts == concept
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[hit]
    return np.bincount(row, values[hit], len(indptr) - 1).astype(np.float64)


def sheet(rows: list[list[Image.Image]], columns: int, side: int) -> Image.Image:
    """Paste tiles into a grid, one list per row; missing tiles stay black."""
    page = Image.new("RGB", (columns * side, max(len(rows), 1) * side))
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            page.paste(tile, (x * side, y * side))
    return page


def face_sheet(name: str) -> str:
    """Return the name of the sheet of faces that lies beside a sheet of tiles, with the same concepts in its rows."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/faces-{file.removeprefix('concepts-')}"


def faces(rows: list[list[Image.Image]]) -> Image.Image:
    """Paste the first tiles of each row, scaled down, into a grid.

    A graph shows some twenty concepts from as many sheets as there are; these sheets are a fifth of the full ones.
    """
    small = (FACE_SIDE, FACE_SIDE)
    shrunk = [[tile.resize(small, Image.Resampling.LANCZOS) for tile in row[:FACE]] for row in rows]
    return sheet(shrunk, FACE, FACE_SIDE)
