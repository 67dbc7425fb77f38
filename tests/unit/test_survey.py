"""Every family of models (an hour): 95% are accepted, the others refused in a line; and the page that says so."""

import json

import pytest

from survey import models, report

LSTM = "relevance cannot pass lstm (node x)"
ROWS = [
    {"model": "timm:a", "method": "srd", "reason": "", "error": ""},
    {"model": "torchvision:b", "method": "grad_x_input", "reason": f"{LSTM}; set contribution.method: z", "error": ""},
    {"model": "timm:c", "method": None, "reason": "there is no layer", "error": ""},
]  # fmt: skip


def test_the_page_says_of_each_model_what_became_of_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{**ROWS[0], "method": None, "error": "old"}, *ROWS]))
    said = report.page(report.read(path))
    assert "**2 of 3 are accepted (67%)**, 1 refused" in said and "none ended in another way" in said
    assert "timm: a." in said and "| torchvision:b | relevance cannot pass lstm (node x) |" in said
    assert "| timm:c | there is no layer |" in said and "Ended otherwise" not in said
    assert "## Ended otherwise (1)" in report.page([*ROWS, {"model": "timm:d", "error": "IndexError"}])


def test_each_family_is_there_once():
    names = models.timm_models()
    assert len(names) == len(set(names)) > 90 and "timm:vit_tiny_patch16_224" in names


def test_one_model_goes_all_the_way():
    row = models.try_one("torchvision:squeezenet1_1")
    assert row["method"] == "srd" and len(row["layers"]) == 2 and not row["error"] and not row["reason"]


@pytest.mark.slow
def test_every_family_is_accepted_or_refused_in_a_line(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    monkeypatch.setattr("sys.argv", ["models", str(path)])
    models.main()
    rows = report.read(path)
    report.PAGE.write_text(report.page(rows))
    assert not [row for row in rows if row.get("error") and not row.get("method")]
    assert len(report.accepted(rows)) >= 0.95 * len(rows)
