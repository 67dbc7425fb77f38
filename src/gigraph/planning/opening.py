"""A finished run, opened from its results folder alone: what it was made with stands in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gigraph.errors import UserError
from gigraph.planning.config import PROJECT, load
from gigraph.planning.plan import Plan
from gigraph.records.paths import Results
from gigraph.worlds.registry import NAMES


def plan_of(folder: str | Path) -> Plan:
    """Return the plan of the last finished run in a results folder, with the folder where it lies now.

    The user's files that the configuration names relative to where snakemake was started are found from anywhere, as
    long as they lie where they did beside the results.

    Raises
    ------
    UserError
        If nothing says what the run was made with, or another version of gigraph does.
    """
    told = Results(folder)("run")
    try:
        raw = _with_paths(json.loads(told.read_text(encoding="utf-8"))["config"], Path(folder))
    except FileNotFoundError:
        raise UserError(
            f"there is no {told}, which says what the run was made with; give the folder of its results, or run "
            "snakemake there until it is finished"
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"cannot read {told} ({error}); run snakemake again in the folder of its results") from None
    try:
        config = load(raw).model_copy(update={"output": str(folder)})
    except UserError as error:
        raise UserError(
            f"{told} is of another version of gigraph ({error}); run snakemake again, or open it by that version"
        ) from None
    return Plan(config, PROJECT / "workflow" / "scripts")


def _with_paths(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a configuration whose files are found from here, if they still lie where they did beside the results."""
    given, here = Path(raw["output"]), folder.resolve()
    if given.is_absolute() or here.parts[-len(given.parts) :] != given.parts:
        return raw
    home = here.parents[len(given.parts) - 1]
    if home == Path.cwd():
        return raw
    moved = {section: dict(raw[section]) for section in ("images", "model")}
    for section, key in (("images", "source"), ("model", "source"), ("model", "weights")):
        value = moved[section][key]
        file, factory, name = (value or "").partition(".py:")
        path = home / (f"{file}.py" if factory else file)
        if file and value not in NAMES and path.exists():
            moved[section][key] = f"{path}:{name}" if factory else str(path)
    return {**raw, **moved}
