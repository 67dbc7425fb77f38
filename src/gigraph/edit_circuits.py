"""What an edit does to each class's circuit: the smallest that the run found, alone, before and after.

The circuit runs as the run's circuits do (`gigraph.replacement`), on the images that it was found on; the edit is
applied to X^ of the layers that it is of. Beside it the network itself says what it makes of the same images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gigraph.circuit_run import CircuitRun, of_class
from gigraph.circuits import readings
from gigraph.edit_images import Look
from gigraph.planning.plan import Plan
from gigraph.planning.stages.stage import read
from gigraph.planning.standing import hold
from gigraph.records import tables
from gigraph.replacement import Change
from gigraph.subject import Subject


def circuits(
    plan: Plan, method: str, subject: Subject, edits: Mapping[str, Change], look: Look
) -> dict[str, Any] | None:
    """Return what the smallest circuit of each class says, and the network on the same images, before and after.

    Parameters
    ----------
    plan : Plan
        Of the finished run.
    method : str
        Whose concepts.
    subject : Subject
        With all the layers of the run.
    edits : mapping of str to callable
        Of PFVs, by layer.
    look : callable
        The network's scores as it is, and edited.

    Returns
    -------
    dict or None
        How circuits are read, and of each class that has one ``images``, ``nodes`` and ``concepts`` (numbers), and the
        mean over the images of its score (`gigraph.circuits.readings`), ``before`` and ``after``, of the ``circuit``
        and of the ``network``. None where the run has no circuits.

    Raises
    ------
    UserError
        If the run's tables are not those that it plans.
    """
    of = {"method": method}
    files = {name: plan.results.shards(name, plan.shards, **of) for name in ("circuits", "circuit_members")}
    if not any(path.is_file() for path in files["circuits"]):
        return None
    rests_on = [one for many in plan.reads("circuits", shard=0, **of).values() for one in many]
    hold(plan, [*(read(name, **of) for name in files), *rests_on])
    settings = plan.settings("circuits", shard=0, **of)
    rows = tables.read(files["circuits"]).to_pylist()
    smallest = [row for row in rows if row["order"] == "pruned" and row["score"] is not None]
    members = {
        (row["scope"], row["layer"], row["concept"])
        for row in tables.read(files["circuit_members"]).to_pylist()
        if row["smallest"]
    }
    selection = tables.read(plan.results("selection")).to_pylist()
    names = {row["label"]: row["class"] for row in tables.read(plan.results("classes")).to_pylist()}
    images = {row["scope"]: of_class(selection, row["scope"], settings["circuit"]["images"]) for row in smallest}
    ids = {one["image_id"] for many in images.values() for one in many}
    run = CircuitRun(plan.root, method, subject, settings, ids)
    then, now = run.replacement(), run.replacement(edits)
    found = []
    for row in sorted(smallest, key=lambda row: row["scope"]):
        label = row["scope"]
        x = run.inputs(images[label])
        seen = run.see(then, images[label], x)
        places = zip(run.nodes.layer.tolist(), run.nodes.node.tolist(), strict=True)
        kept = run.nodes.masks(np.array([[(label, plan.layers[i], node) in members for i, node in places]]))
        found.append({
            "class": names.get(label, str(label)), "label": label, "images": len(seen), "nodes": int(row["size"]),
            "concepts": int(row["concepts"]),
            "circuit": _both(then.logits(seen, kept)[0], now.logits(seen, kept)[0], label, subject),
            "network": _both(seen.logits, look(x)[-1], label, subject),
        })  # fmt: skip
    how = {key: settings["circuit"][key] for key in ("share", "deleted", "errors")}
    reads = "value" if subject.network.task == "regression" else "probability"
    return {"reads": reads, **how, "classes": found} if found else None


def _both(before: Tensor, after: Tensor, label: int, subject: Subject) -> dict[str, float]:
    """Return a class's mean score from logits [N, classes]."""
    parts = zip(("before", "after"), (before, after), strict=True)
    return {name: float(readings(logits, label, subject.network.task)[0].mean()) for name, logits in parts}
