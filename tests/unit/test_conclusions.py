"""What an evaluation found: each sentence from tables made by hand, absent without them, and by a slow computation."""

import re
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from gigraph.evaluation.conclusions import HEADING, conclusions, own_reconstruction, section
from gigraph.evaluation.summary import judged, summary
from gigraph.running import ending as endings
from gigraph.running.ending import ending, found, of_evaluation

TOPICS = ("reconstruction", "classes", "interlayer", "stability", "edges", "sensitivity")
MEASURES = {"method": "bisecting", "target": "", "order": "", "part": ""}
SETTINGS = {"layers": ["a", "b", "c"], "pairs": [], "methods": ["random", "bisecting"], "graphs": ["bisecting"],
            "shortcut": None, "attribution": {"method": "gig"}}  # fmt: skip


def measured(metric, values, layer, **names):
    values = np.array(values, float)
    se = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    numbers = {"value": values.mean(), "se": se, "n": len(values), "values": values.tolist()}
    return {**MEASURES, "layer": layer, "metric": metric, **names, **numbers}


def draws(count, mean, spread, seed):
    """Return values of a given mean and standard deviation."""
    drawn = np.random.default_rng(seed).normal(size=count)
    return mean + spread * (drawn - drawn.mean()) / drawn.std(ddof=1)


def compared(method, metric, layer, values, network="trained", reading="lasso"):
    row = measured(metric, values, layer)
    return {**row, "method": method, "network": network, "concepts": 8, "seed": 0, "reading": reading}


def everything(images=25):
    """Return tables in which layer a has a lead, b none, and c falls behind."""
    at_x = draws(images, 0.6, 0.1, 0)
    classes, interlayer, stability, edges, rows = [], [], [], [], []
    for layer, lead in (("a", 0.05), ("b", 0.005), ("c", -0.05)):
        names = {"layer": layer, "target": "classes"}
        classes += [
            measured("probability_at_x", at_x, **names),
            measured("probability_at_concepts", at_x * (0.8 + lead) + draws(images, 0, 0.01, 1), **names),
            measured("accuracy_at_x", [1] * (images - 2) + [0] * 2, **names),
            measured("accuracy_at_concepts", [1] * (images - 5) + [0] * 5, **names),
        ]
        some = {"layer": layer, "target": "d"}
        for order, ahead in (("gradient_x_input", lead), ("ablation", -0.1), ("random", 0.4)):
            interlayer.append(measured("gig_gain_projection", draws(images, ahead, 0.05, 2), order=order, **some))
        interlayer.append(measured("difference_projection", [0.5, 0.7], order="gig", **some))
        chance = draws(30, 0.8, 0.02, 3)
        stability += [measured("stability_chance", chance, layer)]
        stability += [measured("stability", chance + draws(30, lead, 0.05, 4), layer)]
        edges += [measured("rank_correlation_shown", [0.9 + lead], **some) | {"n": 50},
                  measured("same_sign_shown", [0.8 + lead], **some) | {"n": 50},
                  measured("rank_correlation_at_x", [0.7 + lead], **some) | {"n": 50}]  # fmt: skip
        for metric, ahead in (("probability_at_concepts", lead), ("insertion_minus_deletion", lead + 0.05)):
            floor = draws(images, 0.4, 0.1, 5)
            for reading, more in (("pursuit", 0.3), ("lasso", 0.0)):  # the run's coder is lasso, of which it is told
                values = floor + more + draws(images, ahead, 0.05, 6)
                rows.append(compared("bisecting", metric, layer, values, reading=reading))
                rows.append(compared("random", metric, layer, floor, reading=reading))
            rows.append(compared("bisecting", metric, layer, floor, "shuffled"))
            rows.append(compared("sae", metric, layer, floor + 0.3))
        rows += [compared(method, "rel_l2", layer, [0.5, 0.4]) for method in ("bisecting", "random")]
    sane = [
        {"topic": topic, "metric": metric, "layer": layer, "order": order, "auc": auc, "n": 30}
        for layer in "abc"
        for topic, metric, order, auc in (
            ("classes", "mu_fidelity", "gig", 0.1),  # of the attribution: no measure of what is learned
            ("classes", "probability_at_concepts", "", 0.9),
            ("reconstruction", "rel_l2_map", "", 0.5), ("reconstruction", "rel_l2", "", 0.1),
            ("stability", "stability", "", 0.5), ("interlayer", "difference_projection", "gig", 0.95),
            ("interlayer", "gig_gain_projection", "gradient_x_input", 0.5),
        )
    ]  # fmt: skip
    blank = {"method": "bisecting", "target": "", "reading": "", "trained": 1.0, "shuffled": 1.0}
    frames = {"classes": classes, "interlayer": interlayer, "stability": stability, "edges": edges, "comparison": rows}
    return {**{name: pl.DataFrame(some) for name, some in frames.items()},
            "sanity": pl.DataFrame([{**blank, **row} for row in sane])}  # fmt: skip


def said(topics):
    sane = topics.get("sanity", pl.DataFrame())
    return conclusions(topics, judged(sane, "bisecting", "gig", None), "bisecting", "gig")


BEGINS = {
    "classes": "On 25 evaluated images bisecting keeps",
    "comparison": "Concepts of bisecting lead random PFVs in class probability",
    "interlayer": "GIG orders concepts between layers better than gradient × input",
    "edges": "Shown edges have a rank correlation of 0.850 (c → d) to 0.950 (a → d) with exact ablation",
    "stability": "Concepts are found again under other seeds beyond chance",
    "sanity": "4 measures say as much or more",
}


def test_each_table_has_its_sentence_and_without_it_there_is_none():
    topics = everything()
    sentences = said(topics)
    assert len(sentences) == 6
    for sentence, begins in zip(sentences, BEGINS.values(), strict=True):
        assert sentence.startswith(begins) and sentence.endswith(".") and len(sentence.partition("; ")[0]) <= 150
    for name in BEGINS:
        for nothing in (topics[name].clear(), pl.DataFrame()):
            assert said({**topics, name: nothing}) == [one for one in sentences if not one.startswith(BEGINS[name])]
        assert said({name: topics[name]}) == [one for one in sentences if one.startswith(BEGINS[name])]
    assert said({}) == []


def literal(values):
    """Return the mean and its standard error, the slow way."""
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5


def test_the_sentences_hold_what_a_slow_computation_finds():
    topics = everything()
    kept, beyond, ordered, causal, stable, useless = said(topics)

    def rows(topic, **wanted):
        return [row for row in topics[topic].to_dicts() if all(row[name] == value for name, value in wanted.items())]

    ends = {}
    for layer in "ac":
        (x,), (there,) = (rows("classes", layer=layer, metric=f"probability_at_{at}") for at in ("x", "concepts"))
        ratio = sum(there["values"]) / sum(x["values"])
        errors = [b - ratio * a for a, b in zip(x["values"], there["values"], strict=True)]
        n = len(errors)
        se = (n / (n - 1) * sum(e**2 for e in errors)) ** 0.5 / sum(x["values"])
        ends[layer] = f"{ratio:.0%} ± {se:.0%} ({layer})"
    assert f"keeps {ends['c']} to {ends['a']} of a class probability of 0.600 ± 0.020;" in kept
    accuracy = [literal([1] * (25 - wrong) + [0] * wrong) for wrong in (5, 2)]
    there, at_x = (f"{mean:.0%} ± {se:.0%}" for mean, se in accuracy)
    assert kept.endswith(f"the class is recognised in {there} (a) of them, at the layer itself in {at_x}.")
    for metric in ("probability_at_concepts", "insertion_minus_deletion"):
        groups = {1: [], 0: [], -1: []}
        for layer in "abc":
            (mine,), (floor,) = (
                rows("comparison", layer=layer, metric=metric, method=method, reading="lasso", network="trained")
                for method in ("bisecting", "random")
            )
            lead, se = literal([a - b for a, b in zip(mine["values"], floor["values"], strict=True)])
            groups[(lead > 2 * se) - (lead < -2 * se)].append(f"{layer} ({lead:.3f} ± {se:.3f})")
        ahead, level, behind = (" and ".join(groups[sign]) for sign in (1, 0, -1))
        if metric == "probability_at_concepts":
            assert (
                f"in 1 of 3 layers (25 evaluated images); ahead in {ahead}, not in {level}, behind in {behind};"
                in beyond
            )
        else:
            assert beyond.endswith(f"C-Insertion minus C-Deletion in 2 of 3 layers, ahead in {ahead}, not in {level}.")
    for sentence, unit in ((ordered, "pairs (25 evaluated images)"), (stable, "layers (30 concepts)")):
        assert f"in 1 of 3 {unit}; ahead in a" in sentence and ", not in b" in sentence and ", behind in c" in sentence
    for layer in "abc":
        (row,) = rows("interlayer", layer=layer, order="gradient_x_input")
        assert f"{layer} → d ({{:.3f}} ± {{:.3f}})".format(*literal(row["values"])) in ordered
        (again,), (chance,) = (rows("stability", layer=layer, metric=m) for m in ("stability", "stability_chance"))
        lead = literal([a - b for a, b in zip(again["values"], chance["values"], strict=True)])
        assert f"{layer} ({lead[0]:.3f} ± {lead[1]:.3f})" in stable
    assert "the ablation's sign in 75% to 85% of them; deleted from X itself they have one of 0.650 to 0.750" in causal
    named = useless.removesuffix(".").split("; ")[1:]
    assert named == [
        "stability under other seeds", "GIG's lead in the projection, over gradient × input",
        "relative l2 error of held-out PFVs", "relative l2 error over all positions of held-out images",
    ]  # fmt: skip


def test_few_images_are_called_few_and_one_alone_is_no_lead():
    assert all("25 evaluated images" in sentence and "few" not in sentence for sentence in said(everything())[:2])
    for sentence in said(everything(19))[:3]:
        assert "19 evaluated images, few" in sentence
    one = everything()
    alone = one["comparison"].with_columns(pl.col("values").list.head(1), pl.lit(1).alias("n"))
    (sentence,) = said({"comparison": alone})
    assert "in 0 of 3 layers (1 evaluated image, few)" in sentence and "ahead" not in sentence and "±" not in sentence


def test_what_has_no_number_is_passed_over():
    topics = everything()
    nothing = topics["edges"].with_columns(pl.lit(float("nan")).alias("value"))
    assert said({"edges": nothing}) == []
    values = topics["classes"].with_columns(pl.col("metric").str.replace("probability", "value"))
    assert (
        said({"classes": values, "comparison": topics["comparison"]}) == []
    )  # a regression's are not better for being larger
    sure = topics["sanity"].with_columns(pl.lit(0.9).alias("auc"))
    assert said({"sanity": sure}) == []


def test_the_page_begins_with_them_and_the_screen_reads_them_there(tmp_path):
    topics = everything()
    empty = topics["classes"].clear()
    page = tmp_path / "summary.md"
    page.write_text(text := summary({**dict.fromkeys(TOPICS, empty), **topics}, SETTINGS))
    assert text.splitlines()[2] == HEADING and text.count("\n- ") == 6 and text.index("\n- ") < text.index("Mean ±")
    told = of_evaluation(page)
    assert [line[:30] for line in told] == [begins[:30] for begins in list(BEGINS.values())[:2]]
    assert all(len(line) <= 150 and ";" not in line for line in told)
    page.write_text(summary({**dict.fromkeys(TOPICS, empty)}, SETTINGS))
    assert HEADING not in page.read_text() and of_evaluation(page) == []
    page.write_text("\n\n".join(["# Evaluation", *section([f"{'so many words ' * 20}; no more."]), "## B", "- other"]))
    (short,) = of_evaluation(page)
    assert 140 < len(short) <= 150 and short.endswith(" ...")


def test_the_ending_tells_of_a_current_evaluation_else_of_the_graph(tmp_path, monkeypatch):
    page = tmp_path / "summary.md"
    page.write_text("\n\n".join(["# Evaluation", *section(["One; two.", "Three.", "Four."])]))
    plan = SimpleNamespace(results=lambda name: page)
    monkeypatch.setattr(endings, "in_tables", lambda plan: ["the graph's"])
    for current, expected in (
        ({"explorer", "summary"}, ["One", "Three"]), ({"explorer"}, ["the graph's"]), (set(), []),
    ):  # fmt: skip
        monkeypatch.setattr(endings, "_is_current", lambda plan, name, current=current: name in current)
        assert found(plan) == expected


def test_notes_on_the_graph_come_before_those_on_what_is_compared_with_it(monkeypatch):
    config = SimpleNamespace(methods=["bisecting"], evaluated=["bisecting", "batchtopk", "sae"])
    plan = SimpleNamespace(config=config, results=lambda name: f"results/{name}.json")
    monkeypatch.setattr(endings, "_pages", lambda plan: [])
    notes = {f"batchtopk/concepts/l{i}": [f"dead {i}"] for i in range(6)}
    notes |= {"bisecting/concepts/l4": ["capped"], "images": ["few recognised"], "sae/concepts/l1": ["dead", "capped"]}
    lines = ending(plan, ["found"], notes, "1 s")[2:]
    shown = [line.removeprefix("  note: ") for line in lines[:-1]]
    assert shown == ["few recognised", "capped", "dead 0", "dead 1", "dead 2", "dead 3"]
    assert lines[-1].strip() == "3 more notes stand in results/run.json"


def test_a_runs_own_reconstruction_says_on_how_many_images():
    rows = {"layer": ["a", "b"], "images": [200, 200], "logit": [0.9, 0.95], "logit_se": [0.01, 0.02],
            "agreement": [0.85, 0.8], "unseen_images": [13, 13], "unseen_logit": [0.8, np.nan],
            "unseen_logit_se": [0.07, np.nan], "unseen_agreement": [0.7, 0.9]}  # fmt: skip
    text = own_reconstruction(pl.DataFrame(rows))
    assert text == (
        "On 200 attributed images the concepts of a layer keep 90% ± 1% (a) to 95% ± 2% (b) of the decision and 80% to "
        "85% of the predictions; on 13 images, few, that no concept was found on they keep 80% ± 7% (a) of the "
        "decision and 70% to 90% of the predictions."
    )
    none = own_reconstruction(pl.DataFrame(rows | {"unseen_images": [0, 0]}))
    assert none.endswith("85% of the predictions.") and "no concept" not in none
    assert own_reconstruction(pl.DataFrame(rows | {"images": [0, 0], "unseen_images": [0, 0]})) == ""
    assert re.fullmatch(r"On 13 images, few, that .* the concepts of a layer keep .*",
                        own_reconstruction(pl.DataFrame(rows | {"images": [0, 0]})))  # fmt: skip


@pytest.mark.parametrize("own", ["gig", "gradient_x_input"])
def test_a_lead_is_over_another_attribution_method(own):
    """Not over exact ablation, which is the measure, nor over chance."""
    gains = everything()["interlayer"].with_columns(pl.col("metric").str.replace("gig", own))
    if own == "gradient_x_input":
        gains = gains.filter(pl.col("order") != own)
    found = conclusions({"interlayer": gains}, pl.DataFrame(), "bisecting", own)
    assert len(found) == (own == "gig")
