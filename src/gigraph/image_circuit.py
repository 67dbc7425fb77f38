"""The circuit of one image of a finished run: the network runs on some nodes of the graph alone, for that image.

Nodes go in the order of the image's own relevances; coefficients are the run's, deleted concepts stand where the run's
circuits have them (`circuit.deleted`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from gigraph.circuit_run import BESIDE, CircuitRun, gradient_x_input, mean_relevance
from gigraph.circuits import Circuits, Found, Nodes, Search
from gigraph.errors import UserError
from gigraph.hashing import mix
from gigraph.method.circuit import joint_order
from gigraph.planning.plan import Plan
from gigraph.planning.standing import hold
from gigraph.records import tables
from gigraph.reserved import CLASSES
from gigraph.subject import Subject


@dataclass(frozen=True)
class ImageCircuit:
    """What circuits of an image say of its class.

    Attributes
    ----------
    label : int
        The class.
    found : Found
        The network's score, the curves along each order, the smallest circuit and what all other nodes say.
    members : DataFrame
        Every node: ``layer``, ``concept``, ``rank`` (by relevance to this image's class), ``relevance``, ``smallest``.
    """

    label: int
    found: Found
    members: pl.DataFrame


def image_circuit(plan: Plan, method: str, image: int) -> ImageCircuit:
    """Return the circuits of an attributed image towards its class.

    Parameters
    ----------
    plan : Plan
        Of the finished run.
    method : str
        Whose concepts.
    image : int
        The image's id.

    Raises
    ------
    UserError
        If the image is not attributed, or the run's tables are not those that it plans.
    """
    of = {"method": method}
    hold(plan, [one for many in plan.reads("circuits", shard=0, **of).values() for one in many])
    selection = tables.read(plan.results("selection")).to_pylist()
    row = next((row for row in selection if row["image_id"] == image and row["label"] >= 0), None)
    if row is None:
        raise UserError(
            f"image {image} is not among the {len(selection)} attributed images: see the ids in "
            f"{plan.results('selection')}, or attribute more (attribution.images_per_class)"
        )
    settings = plan.settings("circuits", shard=0, **of)
    c, label = settings["circuit"], row["label"]
    subject = Subject(plan.network, plan.config.compute, plan.layers)
    run = CircuitRun(plan.root, method, subject, settings, [image])
    relevance = []
    for one in run.vocabularies:
        table = tables.read(plan.results.shards("attributions", plan.shards, source=one.layer, target=CLASSES, **of))
        mine = table.take(np.flatnonzero(tables.numpy(table, "image_id") == image))
        relevance.append(mean_relevance(mine, label, one.families, c["of"] == "concepts"))
    gathered = run.nodes.gathered(relevance)
    orders = {settings["attribution"]["method"]: joint_order(gathered)}
    orders.setdefault(BESIDE, joint_order(run.nodes.gathered(gradient_x_input(run, [row], label))))
    search = Search(c["share"], c["points"], c["passes"], c["random"])
    generator = np.random.Generator(np.random.Philox(int(mix(settings["seed"], image))))
    replacement = run.replacement()
    circuits = Circuits(replacement, run.see(replacement, [row]), label, run.nodes)
    found = circuits.find(orders, search, generator)
    return ImageCircuit(label, found, _members(found, run.nodes, plan.layers, np.concatenate(gathered)))


def _members(found: Found, nodes: Nodes, layers: list[str], relevance: np.ndarray) -> pl.DataFrame:
    order = found.order
    kept = np.zeros(len(nodes), bool) if found.pruned is None else found.pruned.kept
    return pl.DataFrame({
        "layer": [layers[i] for i in nodes.layer[order]], "concept": nodes.node[order].astype(int),
        "rank": np.arange(len(order)), "relevance": relevance[order], "smallest": kept[order],
    })  # fmt: skip
