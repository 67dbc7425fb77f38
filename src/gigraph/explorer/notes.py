"""What a run's jobs remarked, for those who see its results and not its logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gigraph.records.notes import notes_in
from gigraph.records.paths import Results


def notes_of(results: Results, method: str, receipts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the notes that a run's jobs logged, in the order of the jobs' names.

    Logs of former configurations and of other methods stay out.

    Parameters
    ----------
    results : Results
        The run's files.
    method : str
        The extractor whose graph is shown.
    receipts : mapping
        What each job wrote at its end, by the job's name.
    """
    plan, logs = results("plan"), results("logs")
    planned = set(json.loads(plan.read_text()).values()) if plan.is_file() else None
    found = []
    for name, receipt in receipts.items():
        folder = name.split("/")[0]
        other = folder != method and results("concepts", method=folder, layer="").parent.is_dir()
        if not other and (planned is None or receipt["lineage"] in planned):
            found += notes_in(logs / f"{name}.log")
    return list(dict.fromkeys(found))
