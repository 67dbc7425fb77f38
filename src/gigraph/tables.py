"""Every table that gigraph reads or writes: its schema, atomic writing, and its provenance.

Each Parquet file carries two keys in its metadata: ``gigraph.version``, and ``gigraph.lineage``, the hash of all
settings, code and inputs that the table was made from (`gigraph.plan`). Within a run, a table is read or written
only if its lineage is the one that the run planned.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gigraph import __version__
from gigraph.errors import UserError
from gigraph.provenance import digest

ERROR_NODE = -1
"""Source id of a layer's error node: what the concepts leave unexplained."""
REMAINDER = -2
"""Source id of the sum over the sources that were not kept."""
DATASET = -1
"""Scope id of the whole dataset, beside class scopes."""
CLASSES = "classes"
"""The target layer that stands for the network's outputs."""

_IMAGE = [("image_id", pa.int64())]
_POSITION = [*_IMAGE, ("y", pa.int32()), ("x", pa.int32())]

SCHEMAS: dict[str, pa.Schema] = {
    # one row per image, split by shard; paths are relative to the image folder
    "manifest": pa.schema(
        [
            *_IMAGE,
            ("path", pa.string()),
            ("label", pa.int32()),
            ("class", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
        ]
    ),
    "rejected": pa.schema([("path", pa.string()), ("reason", pa.string())]),
    # what was compiled; how long it took is no result, and stands in the log
    "kernels": pa.schema([("kernel", pa.string())]),
    # the images that are attributed
    "selection": pa.schema([*_IMAGE, ("path", pa.string()), ("label", pa.int32()), ("shard", pa.int32())]),
    "predictions": pa.schema(
        [
            *_IMAGE,
            ("predicted", pa.int32()),
            ("probability", pa.float32()),
            ("contribution_residual", pa.list_(pa.float32())),
        ]
    ),
    "images": pa.schema(
        [
            *_IMAGE,
            ("path", pa.string()),
            ("label", pa.int32()),
            ("class", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("predicted", pa.int32()),
            ("probability", pa.float32()),
        ]
    ),
    "classes": pa.schema([("label", pa.int32()), ("class", pa.string())]),
    # beta: the batch norms' net shift (Eq. 8), null where the layer has none
    "layers": pa.schema(
        [
            ("layer", pa.string()),
            ("node", pa.string()),
            ("layout", pa.string()),
            ("channels", pa.int32()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("beta", pa.list_(pa.float32())),
        ]
    ),
    "centre": pa.schema([("layer", pa.string()), ("center", pa.string()), ("beta", pa.list_(pa.float32()))]),
    # pfv: FixedSizeList<float32>[C], see `pfv_schema`
    "pfvs": pa.schema([*_POSITION, ("contribution", pa.float32()), ("fallback", pa.bool_())]),
    "concepts": pa.schema(
        [("concept", pa.int32()), ("size", pa.int32()), ("cohesion", pa.float32()), ("node", pa.int32())]
    ),
    # the split tree (concept hierarchy): concept is null on inner nodes, parent is null on the root
    "tree": pa.schema([("node", pa.int32()), ("parent", pa.int32()), ("size", pa.int32()), ("concept", pa.int32())]),
    "calibration": pa.schema(
        [
            ("layer", pa.string()),
            ("penalty", pa.string()),
            ("value", pa.float64()),
            ("nonzeros", pa.float64()),
            ("rel_l2", pa.float64()),
        ]
    ),
    "coefficients": pa.schema(
        [
            *_POSITION,
            ("concepts", pa.list_(pa.int32())),
            ("values", pa.list_(pa.float32())),
            ("rel_l2", pa.float32()),
            ("gap", pa.float32()),
        ]
    ),
    # One row per image and target. at_x, at_concepts and at_baseline are S(X), S(X~) and S(baseline); the error
    # node holds at_x - at_concepts; completeness_error is sum GIG - (S(X~) - S(baseline)).
    "attributions": pa.schema(
        [
            *_IMAGE,
            ("label", pa.int32()),
            ("target", pa.int32()),
            ("sources", pa.list_(pa.int32())),
            ("values", pa.list_(pa.float32())),
            ("remainder", pa.float32()),
            ("error", pa.float32()),
            ("at_x", pa.float32()),
            ("at_concepts", pa.float32()),
            ("at_baseline", pa.float32()),
            ("completeness_error", pa.float32()),
            ("total_absolute", pa.float32()),
            ("steps", pa.int32()),
            ("deviation", pa.float32()),
        ]
    ),
    # scope: a class label, or -1 for the whole dataset; kept concepts of a class, by mean relevance
    "kept": pa.schema(
        [
            ("scope", pa.int32()),
            ("layer", pa.string()),
            ("rank", pa.int32()),
            ("concept", pa.int32()),
            ("relevance", pa.float32()),
            ("se", pa.float32()),
            ("support", pa.int32()),
        ]
    ),
    "edges": pa.schema(
        [
            ("scope", pa.int32()),
            ("source_layer", pa.string()),
            ("source", pa.int32()),
            ("target_layer", pa.string()),
            ("target", pa.int32()),
            ("mean", pa.float32()),
            ("se", pa.float32()),
            ("support", pa.int32()),
            ("evaluated", pa.int32()),
            ("images", pa.int32()),
            ("weight", pa.float32()),
            ("shown", pa.bool_()),
            ("ablation", pa.float32()),
            ("ablation_se", pa.float32()),
        ]
    ),
    "nodes": pa.schema(
        [
            ("layer", pa.string()),
            ("concept", pa.int32()),
            ("kind", pa.string()),
            ("name", pa.string()),
            ("size", pa.int32()),
            ("cohesion", pa.float32()),
            ("relevance", pa.float32()),
            ("classes", pa.int32()),
            ("shown", pa.bool_()),
        ]
    ),
    # per class, source and target, over the class's images: the drop of S_t when concept `source` is deleted from X~
    "ablation": pa.schema(
        [
            ("scope", pa.int32()),
            ("source", pa.int32()),
            ("target", pa.int32()),
            ("ablation", pa.float32()),
            ("se", pa.float32()),
            ("images", pa.int32()),
        ]
    ),
    # box: in original pixels, the patch that the tile shows; sheet and row say where the tile lies
    "exemplars": pa.schema(
        [
            ("concept", pa.int32()),
            ("rank", pa.int32()),
            *_POSITION,
            ("cosine", pa.float32()),
            ("label", pa.int32()),
            ("path", pa.string()),
            ("box", pa.list_(pa.int32(), 4)),
            ("sheet", pa.string()),
            ("row", pa.int32()),
            ("column", pa.int32()),
        ]
    ),
    # map: the concept's coefficients at the layer's positions in the image
    "localisation": pa.schema(
        [
            ("scope", pa.int32()),
            ("concept", pa.int32()),
            ("rank", pa.int32()),
            *_IMAGE,
            ("path", pa.string()),
            ("coefficient", pa.float32()),
            ("relevance", pa.float32()),
            ("map", pa.list_(pa.float32())),
        ]
    ),
    "fidelity": pa.schema(
        [
            ("layer", pa.string()),
            ("rel_l2", pa.float32()),
            ("l0_ratio", pa.float32()),
            ("nonzeros", pa.float32()),
            ("gap", pa.float32()),
            ("pfvs", pa.int64()),
        ]
    ),
    # best: the concept of highest average precision on scenes that choose, scored on others; detectors: all concepts
    # that detect the part there, best first, with their precisions
    "alignment": pa.schema(
        [
            ("layer", pa.string()),
            ("vectors", pa.string()),
            ("part", pa.string()),
            ("best", pa.int32()),
            ("average_precision", pa.float32()),
            ("prevalence", pa.float32()),
            ("detectors", pa.list_(pa.int32())),
            ("precisions", pa.list_(pa.float32())),
        ]
    ),
    # ---- evaluation: long tables, one number a row; "" where a column does not apply -------------------------
    # metric, value, se (standard error over n images, or NaN), for a method, a layer, a target layer or `classes`,
    # an order of the concepts (gig, random, gradient_x_input, ablation), a part of the drawn world
    "measures": pa.schema(
        [
            ("method", pa.string()),
            ("layer", pa.string()),
            ("target", pa.string()),
            ("order", pa.string()),
            ("part", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("se", pa.float64()),
            ("n", pa.int64()),
        ]
    ),
    # x: share of the concepts deleted or inserted, of all or of the active ones (axis); value: mean over n images
    "curves": pa.schema(
        [
            ("method", pa.string()),
            ("layer", pa.string()),
            ("target", pa.string()),
            ("order", pa.string()),
            ("metric", pa.string()),
            ("output", pa.string()),
            ("axis", pa.string()),
            ("x", pa.float64()),
            ("value", pa.float64()),
            ("se", pa.float64()),
            ("n", pa.int64()),
        ]
    ),
    # one row per concept: mean cosine of its best match when concepts are found again with other seeds, with
    # other K, with fewer PFVs per image (NaN where there is one); chance: the same among as many PFVs at random
    "stability": pa.schema(
        [
            ("layer", pa.string()),
            ("concept", pa.int32()),
            ("stability", pa.float32()),
            ("over_concepts", pa.float32()),
            ("over_pfvs", pa.float32()),
            ("chance", pa.float32()),
        ]
    ),
    # edges with their mean GIG and the exact effect of deleting the source: all shown ones, and a sample of others
    "checks": pa.schema(
        [
            ("scope", pa.int32()),
            ("source_layer", pa.string()),
            ("source", pa.int32()),
            ("target_layer", pa.string()),
            ("target", pa.int32()),
            ("shown", pa.bool_()),
            ("mean", pa.float32()),
            ("ablation", pa.float32()),
        ]
    ),
    # an extractor's own encoder, ReLU(weights (x - beta) + bias), and last, without a concept, the offset of its centre
    # from beta; no rows where the lasso gives the coefficients
    "encoder": pa.schema([("concept", pa.int32()), ("bias", pa.float32())]),
    # the exact effect of redrawing a scene without a part, mean over the class's scenes that show it
    "effects": pa.schema(
        [
            ("class", pa.string()),
            ("part", pa.string()),
            ("count", pa.int32()),
            ("probability", pa.float64()),
            ("logit", pa.float64()),
        ]
    ),
}


def pfv_schema(kind: str, column: str, channels: int) -> pa.Schema:
    """Return the schema of `kind` with a FixedSizeList<float32>[channels] column appended."""
    return SCHEMAS[kind].append(pa.field(column, pa.list_(pa.float32(), channels)))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed onto it on success and removed on failure.

    What killed writers of the same file left behind is removed. The bytes reach the disk before the name does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, since the name itself may be as long as names can be.
    prefix = f".{digest(path.name)}."
    for left in path.parent.glob(f"{prefix}*.tmp"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f"{prefix}{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: str | Path, kind: str, columns: Mapping[str, Any], lineage: str = "", vectors: str = "") -> None:
    """Write a table atomically.

    Parameters
    ----------
    path : path
        The Parquet file.
    kind : str
        Key of `SCHEMAS`.
    columns : mapping
        Column name to array, list or Arrow array; every column of the schema must be there.
    lineage : str
        Stored as ``gigraph.lineage``.
    vectors : str
        Name of the column that holds fixed-size vectors, a float32 array [rows, C].

    Raises
    ------
    UserError
        If a newer run plans this table from something else.
    """
    schema = SCHEMAS[kind]
    if vectors:
        schema = pfv_schema(kind, vectors, columns[vectors].shape[1])
    with _writer(path, schema, lineage) as add:
        add(columns)


@contextmanager
def writing(path: str | Path, kind: str, lineage: str = "") -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that appends rows (columns as in `write`) to a table, which is there, whole, at the end.

    For tables that are larger than what should be in memory at once.
    """
    with _writer(path, SCHEMAS[kind], lineage) as add:
        yield add


@contextmanager
def _writer(path: str | Path, schema: pa.Schema, lineage: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    _check_planned(path, lineage)
    schema = schema.with_metadata({"gigraph.version": __version__, "gigraph.lineage": lineage})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def add(columns: Mapping[str, Any]) -> None:
            arrays = [_array(columns[field.name], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

        yield add


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if pa.types.is_fixed_size_list(kind) and isinstance(values, np.ndarray):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return pa.array(values, kind)


def ragged(indptr: np.ndarray, values: np.ndarray) -> pa.ListArray:
    """Return an Arrow list column from CSR: row i holds ``values[indptr[i]:indptr[i + 1]]``."""
    return pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(values))


def read(paths: str | Path | Sequence[str | Path], columns: list[str] | None = None) -> pa.Table:
    """Read one table, or several of one kind one after another.

    Raises
    ------
    UserError
        If a file is missing or is no Parquet file, lacks a column, or the run plans it from something else, naming
        it.
    """
    many = [paths] if isinstance(paths, str | Path) else list(paths)
    tables = []
    for path in many:
        try:
            # `pq.read_table` loads Arrow's data sets first, which takes longer than most of these tables.
            table = pq.ParquetFile(path, memory_map=True).read(columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"cannot read {path}: {error}; run snakemake again, it will be made anew") from None
        _check_planned(path, (table.schema.metadata or {}).get(b"gigraph.lineage", b"").decode())
        if missing := [name for name in columns or [] if name not in table.column_names]:
            raise UserError(f"{path} has no column {missing[0]}: it is of another version; run snakemake again")
        tables.append(table)
    return pa.concat_tables(table.replace_schema_metadata() for table in tables).combine_chunks()


def _check_planned(path: str | Path, lineage: str) -> None:
    """Refuse a table whose lineage is not the one that the run planned for this path."""
    planned = _plan(os.environ.get("GIGRAPH_PLAN", "")).get(str(path), lineage)
    if lineage != planned:
        raise UserError(
            f"{path} is made from other settings, code or inputs ({lineage or 'unknown'}) than this run plans "
            f"({planned}); run snakemake again, it will be made anew"
        )


@cache
def _plan(path: str) -> dict[str, str]:
    """Return the lineage that the run planned for each of its files (`gigraph.provenance.write_plan`)."""
    if not path or not Path(path).is_file():
        return {}
    return json.loads(Path(path).read_text())


def lineage_of(path: str | Path) -> str | None:
    """Return the lineage hash stored in a table, or None if there is no readable table."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    value = metadata.get(b"gigraph.lineage")
    return None if value is None else value.decode()


def numpy(table: pa.Table, column: str) -> np.ndarray:
    """Return a column as an array: [rows], or [rows, C] for a fixed-size list column."""
    array = table[column].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
    return array.to_numpy(zero_copy_only=False)


def csr(table: pa.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a list column as (indptr [rows + 1], values)."""
    array = table[column].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    offsets = array.offsets.to_numpy()
    return (offsets - offsets[0]).astype(np.int64), array.flatten().to_numpy(zero_copy_only=False)


def beta(path: str | Path) -> np.ndarray:
    """Return the centre of a layer, float32 [C], from its ``centre`` table."""
    return csr(read(path), "beta")[1]
