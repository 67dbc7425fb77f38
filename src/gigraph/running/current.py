"""Whether what lies there is what is planned: whole, and made from the planned settings, code and inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from gigraph.records.files import replacing
from gigraph.records.paths import SHOWN
from gigraph.records.tables import lineage_of
from gigraph.running.record import read_receipt

ENDS = {
    ".svg": b"</svg>",
    ".html": b"</html>",
    ".graphml": b"</graphml>",
    ".png": b"IEND\xaeB`\x82",
}
"""How a file of this kind ends if nothing is missing."""


def current(lineages: Mapping[str, str], receipt: Path) -> bool:
    """Whether a job's outputs are there, whole, and made from what is planned.

    Parameters
    ----------
    lineages : mapping of str to str
        The planned lineage of each output.
    receipt : Path
        What the job's script wrote at its end (`gigraph.running.runtime.run`). It speaks for the outputs that are no
        tables; a table carries its own lineage.
    """
    others = [path for path in lineages if not path.endswith(".parquet")]
    if others:
        written = read_receipt(receipt).get("lineage")
        if any(written != lineages[path] or not whole(Path(path)) for path in others):
            return False
    return all(lineage_of(path) == lineage for path, lineage in lineages.items() if path.endswith(".parquet"))


def whole(path: Path) -> bool:
    """Whether a file is there and has its end, or a folder is there and each of its files has."""
    if path.is_dir():
        # Hidden files are Snakemake's own marks.
        files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
        return bool(files) and all(map(whole, files)) and _complete(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if path.suffix in (".webp", ".safetensors"):
                head = stream.read(8)
                # RIFF's length counts what follows it; that of safetensors is the header's, tensors come after.
                if path.suffix == ".webp":
                    return len(head) == 8 and size == int.from_bytes(head[4:], "little") + 8
                header = stream.read(int.from_bytes(head, "little"))
                spans = [v["data_offsets"][1] for k, v in json.loads(header).items() if k != "__metadata__"]
                return size == 8 + len(header) + max(spans, default=0)
            stream.seek(max(0, size - 64))
            return size > 0 and ENDS.get(path.suffix, b"") in stream.read()
    except (OSError, ValueError):
        return False


def _complete(folder: Path) -> bool:
    """Whether a folder that holds a table of its files (a column ``path``) holds each of them."""
    for table in folder.glob("*.parquet"):
        found = pq.ParquetFile(table)
        if "path" in found.schema_arrow.names:
            paths = found.read(["path"])["path"].to_pylist()
            if not all((folder / path).is_file() for path in paths):
                return False
    return True


def shown_evaluation(site: Path) -> str:
    """Return the lineage of the evaluation that an explorer shows; nothing if it shows none."""
    try:
        return json.loads((site / "data" / SHOWN).read_text())
    except (OSError, ValueError):
        return ""


def write_plan(path: Path, lineages: Mapping[str, str]) -> None:
    """Write the lineage of every file of a run, for the jobs to compare with what they read and write."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(lineages))
