"""Whether the tables that lie there are those a configuration plans, for whoever reads a run outside its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gigraph.errors import UserError
from gigraph.planning.plan import MAKERS, Plan
from gigraph.planning.stages import Read
from gigraph.records import tables
from gigraph.records.files import replacing

APART = ("output", "compute", "explorer", "graph", "exemplars", "evaluation")
"""Sections of the configuration that are named where nothing else differs: attributions hardly rest on them."""
NAMED = 3
"""Keys that a message names at most."""


def hold(plan: Plan, reads: Sequence[Read]) -> None:
    """Refuse tables that are not the planned ones.

    Parameters
    ----------
    plan : Plan
        Of the configuration in hand.
    reads : sequence of Read
        All that is going to be read.

    Raises
    ------
    UserError
        If one of them is missing, or is made from something else; then with what differs.
    """
    for one in reads:
        for of in plan.expand(one):
            path = plan.results(one.name, **of)
            if not path.is_file():
                raise UserError(
                    f"there is no {path}: this run is not finished; run it to its end with this configuration"
                )
            if tables.lineage_of(path) != plan.lineage(MAKERS[one.name], **of):
                raise UserError(
                    f"{path} is not what this configuration plans: {difference(plan)}; give the configuration "
                    "that it was made with, or run snakemake with this one"
                )


def write_asked(plan: Plan) -> None:
    """Write what a run is asked for, for `difference` to say later what is another."""
    with replacing(plan.results("asked")) as temporary:
        temporary.write_text(json.dumps(_ingredients(plan)))


def _ingredients(plan: Plan) -> dict[str, Any]:
    return {
        "config": plan.config.model_dump(mode="json"),
        "model": plan.model_state,
        "images": {str(plan.image_folder): [*plan.listing, *plan.class_folders]},
    }


def difference(plan: Plan) -> str:
    """Return in a few words what differs between a configuration and the last run in its folder."""
    try:
        then = json.loads(plan.results("asked").read_text())
    except (OSError, ValueError):
        return "it was made from other settings, code or inputs"
    now = _ingredients(plan)
    keys: list[str] = []
    apart: list[str] = []
    for key, new, old in _differing(now["config"], then["config"]):
        section = key.split(".")[0]
        said = f"{key} is {new!r}, was {old!r}" if len(f"{new!r}{old!r}") < 80 else f"{key} differs"
        (apart if section in APART else keys).append(said)
    files = [
        f"{file} has changed"
        for part in ("model", "images")
        for file, digest in now[part].items()
        if then[part].get(file, digest) != digest
    ]
    found = [*keys, *files] or apart or ["the last run was not finished, or gigraph's own code is another"]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def _differing(new: Any, old: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, new value, old value) of the settings that differ."""
    new, old = _by_name(new), _by_name(old)
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            yield from _differing(new.get(key), old.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif new != old:
        yield prefix, new, old


def _by_name(value: Any) -> Any:
    """Return a list of things with names, such as layers, by these."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        return {one["name"]: {key: part for key, part in one.items() if key != "name"} for one in value}
    return value


def everything(plan: Plan) -> dict[str, str]:
    """Return {path: planned lineage} of the tables that lie in a plan's folder and belong to it."""
    paths = sorted(plan.root.rglob("*.parquet"))
    return {str(path): lineage for path in paths if (lineage := planned(plan, path))}


def planned(plan: Plan, path: Path) -> str | None:
    """Return the lineage that a configuration plans for a table; None if it plans no such table."""
    within = {
        "layer": plan.layers,
        "shard": [str(shard) for shard in plan.shards],
        "topic": plan.values("topic"),
        "method": plan.config.evaluated,
    }
    for name, of in plan.results.identify(path):
        known = all(value in within[field] for field, value in of.items() if field in within)
        if known and ("source" not in of or (of["source"], of["target"]) in plan.pairs):
            return plan.lineage(MAKERS[name], **of)
    return None
