"""The page of an edit: names are text, numbers are those of the report, and nothing is loaded."""

import re

import pytest

from gigraph.explorer.edited import page, percent, points


def section(name, classes, labels="given", left_out=0, random=True):
    """Return what the report says of some images."""
    drawn = {"mean": -0.02, "least": -0.1, "most": 0.0}
    one = {
        "images": 40, "accuracy": {"before": 0.9, "after": 0.875},
        "change": {"of_accuracy": -0.025, "interval": [-0.09, 0.04], "gained": 1, "lost": 2},
        "predictions_changed": 0.1, "probability": {"before": 0.81, "after": 0.79}, "value": None,
        "random": {"change_of_accuracy": drawn, "predictions_changed": None} if random else None,
    }  # fmt: skip
    rows = [{**one, "class": text, "label": i, "verdict": verdict} for i, (text, verdict) in enumerate(classes)]
    return {"name": name, "what": f"images {name}", "labels": labels, "left_out": left_out, "all": one, "classes": rows}


def report(**more):
    """Return a report of one layer."""
    change = {"action": "suppress", "asked": "1", "concepts": [1, 2], "rank": 2, "gain": -1.0, "only_where": 0.5}
    layer = {
        "layer": "layer<b>", "place": "node add of x's forward", "node": "add", "channels": 8, "concepts_of_layer": 9,
        "folds": False, "why_not": "its addend is <none>", "changes": [change],
    }  # fmt: skip
    return {
        "gigraph": "0", "run": "results", "method": "bisecting", "model": "/a/b/net.py:make", "weights": "ab",
        "task": "classes", "of": None, "edits": [layer], "notes": ["a & b"], "facts": None, "circuits": None,
        "random": {"draws": 3, "seed": 0, "concepts": []},
        "images": [section("held out", [("cat<script>", "lost"), ("dog", "no change seen")])], **more,
    }  # fmt: skip


def test_names_are_text_and_nothing_is_loaded():
    text = page(report())
    assert "<script" not in text and "cat&lt;script&gt;" in text and "layer&lt;b&gt;" in text and "a &amp; b" in text
    assert not re.search(r"(src|href)=", text) and "default-src 'none'" in text
    assert "<h1>An edit of net.py:make</h1>" in text


def test_numbers_are_the_reports():
    text = page(report())
    assert "90.0% → 87.5%" in text and "\N{MINUS SIGN}2.5 <span class='note'>(\N{MINUS SIGN}9.0 to +4.0)" in text
    assert "\N{MINUS SIGN}2.0 <span class='note'>(\N{MINUS SIGN}10.0 to 0.0)" in text and "0.81 → 0.79" in text
    assert text.count("<tr class=lost>") == 1 and "where the cosine is above 0.5" in text
    assert "does not fold into the weights: its addend is &lt;none&gt;" in text and "3 draws" in text


def circuits(*classes, **more):
    """Return what a report says of the circuits of classes, (label, images) each."""
    said = {"circuit": {"before": 0.76, "after": 0.2}, "network": {"before": 0.95, "after": 0.27}}
    own = [{"class": "x", "label": i, "images": n, "nodes": 4, "concepts": 9, **said} for i, n in classes]
    return {"reads": "probability", "share": 0.8, "deleted": "mean", "errors": "dropped", "classes": own, **more}


def test_circuits_are_said_once_and_of_the_classes_that_have_one():
    many = [section(name, [("cat", "lost"), ("dog", "no change seen")]) for name in ("found on", "held out")]
    text = page(report(images=many, circuits=circuits((1, 3))))
    assert text.count("0.76 → 0.20<td class=value>0.95 → 0.27") == 1 == text.count("its circuit alone<")
    cat, dog = re.findall(r"<tr class=\w+><th><bdi>.*?(?=<tr|</table>)", text)[:2]
    assert cat.count("<td") == dog.count("<td") == 7 and "0.76" in dog and "0.76" not in cat
    assert "asked to keep 80% of the network's), all other concepts at their means, and" in text
    assert "on the 3 images of the class that" in text
    text = page(report(circuits=circuits((0, 1), (1, 2), deleted="zero", errors="kept", reads="value")))
    assert "on the 1 to 2 images of" in text and "the mean value of" in text and "concepts zero, with what the" in text
    assert "circuit" not in page(report())


def test_what_is_not_there_is_not_claimed():
    one = section("flat", [("cat", "no change seen")], "the model's own predictions before the edit", 4, random=False)
    text = page(report(images=[one], random={"draws": 0, "seed": 0, "concepts": []}))
    assert "They have no labels: the prediction before the edit stands for them." in text and "as before" in text
    assert "4 more could not be read" in text and "Random edits:" not in text
    assert "What the model relies on" not in text


def test_of_many_classes_those_that_change_most_are_shown():
    many = section("held out", [(f"class {i}", "no change seen") for i in range(200)])
    for i, one in enumerate(many["classes"]):
        one["change"] = {**one["change"], "of_accuracy": (i - 100) / 200}
    text = page(report(images=[many]))
    shown = [int(found) for found in re.findall(r"<bdi>class (\d+)", text)]
    assert shown == [*range(30), *range(170, 200)] and "140 classes between are in per_class.parquet" in text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0004, "0.0"), (-0.0004, "0.0"), (-0.05, "\N{MINUS SIGN}5.0"), (0.05, "+5.0"), (None, "")]
)
def test_differences_have_a_sign_and_nothing_none(share, text):
    assert points(share) == text


def test_shares_that_are_not_there_are_empty():
    assert percent(None) == percent(float("nan")) == "" and percent(0.5) == "50.0%"
