"""Reading and writing tables, with their provenance.

Each Parquet file carries two keys in its metadata: ``gigraph.version``, and ``gigraph.lineage``, the hash of all
settings, code and inputs that the table was made from (`gigraph.planning.plan`). Within a run, a table is read or
written only if its lineage is the one that the run planned.
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gigraph.errors import UserError
from gigraph.records.files import replacing
from gigraph.records.schemas import SCHEMAS, pfv_schema
from gigraph.version import __version__


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


def nullable(values: Any) -> pa.Array:
    """Return a float32 column that is null where the values are not a number."""
    return pa.array(np.asarray(values, np.float32), pa.float32(), from_pandas=True)


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
        with _reading(path):
            # `pq.read_table` loads Arrow's data sets first, which takes longer than most of these tables.
            table = pq.ParquetFile(path, memory_map=True).read(columns)
        _check(path, table.schema, columns or [])
        tables.append(table)
    return pa.concat_tables(table.replace_schema_metadata() for table in tables).combine_chunks()


def read_groups(path: str | Path, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
    """Yield the rows of a table that agree in some columns, for each of their values: these, and the other columns.

    For tables that are larger than what should be in memory at once; fast where rows that agree follow each other.

    Raises
    ------
    UserError
        As of `read`.
    """
    with _reading(path):
        schema = pq.read_schema(path)
    _check(path, schema, by)
    file = pq.ParquetFile(path, memory_map=True, read_dictionary=[*by])
    holding: dict[tuple[Any, ...], list[int]] = {}
    alone: set[int] = set()
    for group in range(file.num_row_groups):
        with _reading(path):
            table = file.read_row_group(group, [*by])
        several = [table[name].unique().to_pylist() for name in by]
        if all(len(values) == 1 for values in several):
            alone.add(group)
            keys = {tuple(values[0] for values in several): None}
        else:
            keys = dict.fromkeys(zip(*(table[name].to_pylist() for name in by), strict=True))
        for key in keys:
            holding.setdefault(key, []).append(group)
    for key, groups in holding.items():
        parts = []
        for group in groups:
            with _reading(path):
                part = file.read_row_group(group)
            if group not in alone:
                for name, value in zip(by, key, strict=True):
                    part = part.filter(pc.field(name) == value)
            parts.append(part.drop_columns([*by]))
        yield key, pa.concat_tables(parts)


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"there is no table {path}; run snakemake to its end") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"cannot read {path}: {error}; run snakemake again, it will be made anew") from None


def _check(path: str | Path, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Refuse a table of another lineage than planned, or without these columns."""
    _check_planned(path, (schema.metadata or {}).get(b"gigraph.lineage", b"").decode())
    if missing := [name for name in columns if name not in schema.names]:
        raise UserError(f"{path} has no column {missing[0]}: it is of another version; run snakemake again")


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
    """Return the lineage that the run planned for each of its files (`gigraph.running.current.write_plan`)."""
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
