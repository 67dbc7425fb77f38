"""What of a results folder the site is built from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gigraph.explorer import inputs_of
from gigraph.explorer.inputs import evaluation_of
from gigraph.explorer.notes import notes_of
from gigraph.planning.config import load
from gigraph.planning.plan import Plan
from gigraph.records import tables
from gigraph.records.paths import TOPICS, Results
from gigraph.records.schemas import SCHEMAS
from gigraph.running.record import receipts

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


@pytest.mark.parametrize("drawn", [False, True])
def test_a_whole_evaluation_of_this_configuration_is_shown_or_none(tmp_path: Path, drawn: bool):
    """What another configuration left, or what was cut short, is not shown."""
    results, settings = Results(tmp_path), {"method": "bisecting", "drawn": drawn}

    def put(name: str, kind: str, lineage: str = "mine") -> None:
        tables.write(tmp_path / name, kind, {column: [] for column in SCHEMAS[kind].names}, lineage)

    for topic in TOPICS:
        put(f"evaluation/{topic}.parquet", "measures")
    put("evaluation/found_again.parquet", "stability")
    put("evaluation/effects.parquet", "effects", "of the model")
    put("evaluation/truth.parquet", "measures", "mine" if drawn else "another's")
    mine = ["mine", *["of the model"] * drawn]
    found = evaluation_of(results, settings, mine)
    assert set(found) == {*TOPICS, *(["truth", "effects"] if drawn else [])}
    assert evaluation_of(results, settings, ["another's", "of the model"]) == {}
    put("evaluation/effects.parquet", "effects", "of another model")
    assert "effects" not in evaluation_of(results, settings, mine)
    path = tmp_path / "evaluation/curves.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert evaluation_of(results, settings, mine) == {}


@pytest.mark.parametrize("drawn", [False, True])
def test_the_drawn_worlds_truth_is_shown_of_it_only(tmp_path: Path, drawn: bool):
    images = {"source": "menagerie" if drawn else str(tmp_path / "photos")}
    (tmp_path / "photos" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a" / "0.png")
    names = {"explorer": {"names": {"a": "A"}}}
    config = load({"layers": ["layer1.0"], "output": str(tmp_path), "images": images, **names})
    settings = json.loads(Plan(config, SCRIPTS).settings_json("explorer"))
    found = inputs_of(Results(tmp_path), settings, "mine", ["none"], ["a remark"])
    assert (found.alignment is not None) == drawn
    if drawn:
        assert found.shortcut["class"] == "cheetah" and found.shortcut["planted"] > found.shortcut["elsewhere"]
    else:
        assert found.shortcut is None
    assert (found.lineage, found.notes, found.evaluation) == ("mine", ["a remark"], {})
    assert found.names == {"a": "A"}


def test_notes_are_those_of_the_planned_jobs_of_this_method(tmp_path: Path):
    results = Results(tmp_path)
    (tmp_path / "channels" / "concepts").mkdir(parents=True)
    for name, lineage, notes in (
        ("bisecting/concepts/layer1", "a", ["K is capped", "said twice"]),
        ("channels/concepts/layer1", "a", ["of another method"]),
        ("draw", "former", ["of a former configuration"]),
        ("network", "b", ["said twice"]),
    ):
        log = tmp_path / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("12:00:00 begins\n" + "".join(f"12:00:01 note: {note}\n" for note in notes))
        log.with_suffix(".json").write_text(json.dumps({"stage": "any", "lineage": lineage}))
    results("plan").write_text(json.dumps({"a table": "a", "another": "b"}))
    said = receipts(results("logs"))
    assert notes_of(results, "bisecting", said) == ["K is capped", "said twice"]
    results("plan").unlink()
    assert "of a former configuration" in notes_of(results, "bisecting", said)
