"""Edges beside exact ablation."""

import weakref
from types import SimpleNamespace

import torch

from gigraph import pair
from gigraph.evaluation.checks import _shares, check
from gigraph.evaluation.measures import Measures
from gigraph.records import tables
from gigraph.records.paths import Results
from gigraph.records.schemas import SCHEMAS


def test_the_vocabularies_of_one_pair_at_a_time_are_open(monkeypatch, tmp_path):
    alive, most = weakref.WeakSet(), []

    class Vocabulary:
        directions = towards = start = torch.ones(2, 2)
        family = None

        def __init__(self, root, method, layer, *_, **__):
            self.layer = layer
            alive.add(self)
            most.append(len(alive))

    monkeypatch.setattr(pair, "Vocabulary", Vocabulary)
    network = SimpleNamespace(outputs=2, task="classes")
    subject = SimpleNamespace(
        device=torch.device("cpu"), segment=lambda *_: None, path_points=lambda _: 1, network=network
    )
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "classes")]
    files = {"selection": tmp_path / "selection.parquet", "edges": Results(tmp_path)("edges", method="m")}
    for source, target in pairs:
        of = {"method": "m", "source": source, "target": target, "shard": 0}
        files[source] = Results(tmp_path)("attributions", **of)
    for name, path in files.items():
        kind = name if name in SCHEMAS else "attributions"
        tables.write(path, kind, {column: [] for column in SCHEMAS[kind].names})
    settings = {"method": "m", "layers": list("abcd"), "pairs": pairs, "tolerances": dict.fromkeys("abcd", 0.1),
                "edges": 3, "seed": 0, "images": "", "shards": 1,
                "attribution": {"method": "gig", "class_output": "logit", "baseline": "beta"}}  # fmt: skip
    checks, measures = check(subject, tmp_path, files["selection"], settings)
    assert max(most) == 2 and not len(checks)
    rows = [row for row in measures.rows["measures"] if not row["metric"].startswith("share")]
    assert len(rows) == 4 * 3 * 4 and {row["order"] for row in rows} == {"gig"}


def test_shares_are_of_what_something_is_attributed_to(tmp_path):
    """An image of whose targets one gets nothing has the other's shares; one of which none gets any has no share."""
    columns = {column: [0] * 3 for column in SCHEMAS["attributions"].names}
    columns |= {"image_id": [1, 1, 2], "sources": [[0], [], []], "values": [[0.75], [], []]}
    columns |= {"error": [0.25, 0.0, 0.0], "total_absolute": [0.75, 0.0, 0.0]}
    columns |= {name: [[]] * 3 for name in ("members", "member_values")}
    tables.write(tmp_path / "attributions.parquet", "attributions", columns)
    measures = Measures(method="m")
    _shares(measures, [tmp_path / "attributions.parquet"], {"layer": "a"})
    found = {row["metric"]: row["values"] for row in measures.rows["measures"]}
    assert found == {"share_concepts": [0.75], "share_remainder": [0], "share_error": [0.25]}
