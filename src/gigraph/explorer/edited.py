"""The page of an edit: what was done, what was gained and lost, and on which images. One file, no script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

STYLE = Path(__file__).parent / "assets" / "app.css"
OWN = """
main { max-width: 72rem; margin: 0 auto; }
section { margin-top: 2.6rem; }
.lede h1 { font-size: 2.2rem; }
td.value, th.value { text-align: right; }
td.bars { width: 16rem; min-width: 9rem; }
.now, .then { display: block; height: 5px; border-radius: 3px; background: var(--pos); }
.then { background: var(--line); margin-bottom: 2px; }
.lost .now { background: var(--neg); }
.lost .verdict-word { color: var(--neg); } .gained .verdict-word { color: var(--good); }
.key i { display: inline-block; width: 1.7rem; height: 5px; border-radius: 3px; vertical-align: middle; }
"""
HEADED = 3
"""Sets of images whose accuracy comes first, those that concepts were found on left out."""
CLASSES = 60
"""Classes that a table shows at most, half of them those that lose most; the others stand in the table of the file."""
FACTS = 28
"""Facts that a table shows at most."""


def page(report: Mapping[str, Any]) -> str:
    """Return a report as HTML."""
    title = "An edit of " + report["model"].rpartition("/")[2]  # a user's file without its folders
    body = [
        f'<div class="lede"><h1>{escape(title)}</h1><p>{escape(_deed(report))}</p></div>',
        _numbers(report),
        *(f'<p class="note">Note: {escape(note)}.</p>' for note in report["notes"]),
        # A class's circuit runs on images of its own: it is said once, in the first table of classes.
        *(_section(report, section, None if i else report["circuits"]) for i, section in enumerate(report["images"])),
        _facts(report),
        _edits(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}{OWN}</style>\n"
        f"<main>\n{''.join(body)}\n</main>\n</html>\n"
    )


def percent(share: float | None) -> str:
    """Return a share as text."""
    return "" if share is None or share != share else f"{100 * share:.1f}%"


def points(share: float | None) -> str:
    """Return a difference of shares in points, with its sign."""
    if share is None or share != share:
        return ""
    text = f"{100 * share:+.1f}"
    return {"+0.0": "0.0", "-0.0": "0.0"}.get(text, text.replace("-", "\N{MINUS SIGN}"))


def _deed(report: Mapping[str, Any]) -> str:
    parts = []
    for one in report["edits"]:
        for change in one["changes"]:
            count, gain = len(change["concepts"]), change["gain"]
            what = f"{'concept' if count == 1 else 'concepts'} {', '.join(map(str, change['concepts'][:12]))}"
            what += ", ..." if count > 12 else ""
            verb = "taken out" if change["action"] == "suppress" else f"changed by a gain of {gain:+g}"
            where = f", where the cosine is above {change['only_where']:g}" if change["only_where"] is not None else ""
            parts.append(f"{one['layer']}: {what} {verb}{where}")
    return "; ".join(parts) + ". For good and for all inputs." if parts else "Nothing is edited."


def _numbers(report: Mapping[str, Any]) -> str:
    """Return the few numbers that come first."""
    cells = []
    facts = report["facts"]
    for name in (facts or {}).get("random", {}):
        cells.append((f"{percent(facts['before'][name])} → {percent(facts['after'][name])}", _fact(name)))
    new = [section for section in report["images"] if section["name"] != "found on"] or report["images"]
    for section in new[:HEADED]:
        one, but = (section["others"], f"all but {report['of']}") if "others" in section else (section["all"], "all")
        change = f"{percent(one['accuracy']['before'])} → {percent(one['accuracy']['after'])}"
        cells.append((change, f"{section['name']}, {but}"))
    inside = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for value, name in cells)
    return f'<dl class="numbers">{inside}</dl>'


def _random(one: Mapping[str, Any] | None, name: str, form: Any) -> str:
    found = (one or {}).get(name)
    if not found:
        return ""
    return f"{form(found['mean'])} <span class='note'>({form(found['least'])} to {form(found['most'])})</span>"


def _section(report: Mapping[str, Any], section: Mapping[str, Any], circuits: Mapping[str, Any] | None) -> str:
    count, right = section["all"]["images"], "recognised"
    note = f"{count:,} images."
    if section["labels"] != "given":
        right, note = "as before", f"{note} They have no labels: the prediction before the edit stands for them."
    if section["left_out"]:
        note += f" {section['left_out']:,} more could not be read or are of another size."
    parts = [("all", section["all"])] + (
        [(f"all but {report['of']}", section["others"])] if "others" in section else []
    )
    head = f"<th>images<th class=value>number<th class=value>{right}<th class=value>change (95%)"
    head += "<th class=value>predictions changed<th class=value>random edits: change<th class=value>predictions changed"
    rows = []
    for name, one in parts:
        low, high = one["change"]["interval"]
        cells = [
            f"{one['images']:,}",
            f"{percent(one['accuracy']['before'])} → {percent(one['accuracy']['after'])}",
            f"{points(one['change']['of_accuracy'])} <span class='note'>({points(low)} to {points(high)})</span>",
            percent(one["predictions_changed"]),
            _random(one["random"], "change_of_accuracy", points),
            _random(one["random"], "predictions_changed", percent),
        ]
        rows.append(f"<tr><th>{escape(name)}" + "".join(f"<td class=value>{cell}" for cell in cells))
    table = f'<div class="table"><table><thead><tr>{head}<tbody>{"".join(rows)}</table></div>'
    title = section["what"][:1].upper() + section["what"][1:]
    return (
        f"<section><h2>{escape(title)}</h2><p class='note'>{escape(note)}</p>{table}"
        f"{_classes(section, right, circuits)}</section>"
    )


def _classes(section: Mapping[str, Any], right: str, circuits: Mapping[str, Any] | None) -> str:
    alone = {one["label"]: one for one in circuits["classes"]} if circuits else {}
    head = f"<th>class<th class=value>images<th>{right} before, after<th class=value>change (95%)<th class=value>"
    head += f"{'value' if section['all']['value'] else 'its probability'}<th class=value>random edits: change"
    head += "<th class=value>its circuit alone<th class=value>the network there" if circuits else ""
    rows = []
    order = sorted(section["classes"], key=lambda one: (one["change"]["of_accuracy"], one["class"]))
    half = CLASSES // 2
    for one in order if len(order) <= CLASSES else [*order[:half], *order[-half:]]:
        before, after = one["accuracy"]["before"], one["accuracy"]["after"]
        bars = f"<span class=then style='width:{100 * before:.1f}%'></span>"
        bars += f"<span class=now style='width:{100 * after:.1f}%'></span>"
        low, high = one["change"]["interval"]
        circuit = alone.get(one["label"], {})
        of_circuit = "".join(f"<td class=value>{_step(circuit.get(key))}" for key in ("circuit", "network"))
        verdict = "" if one["verdict"].startswith("no") else f"<span class=verdict-word>{one['verdict']}</span> "
        rows.append(
            f"<tr class={one['verdict'].split()[0]}><th><bdi>{escape(one['class'])}</bdi>"
            f"<td class=value>{one['images']:,}"
            f"<td class=bars title='{percent(before)} to {percent(after)}'>{bars}"
            f"<td class=value>{verdict}{points(one['change']['of_accuracy'])} "
            f"<span class='note'>({points(low)} to {points(high)})</span>"
            f"<td class=value>{_step(one['probability'] or one['value'])}"
            f"<td class=value>{_random(one['random'], 'change_of_accuracy', points)}{of_circuit if circuits else ''}"
        )
    key = "<p class='note key'><i class=then></i> before <i class=now></i> after; a class has gained or lost where the "
    key += "interval does not hold 0, each class by itself"
    key += (
        f"; {len(order) - CLASSES:,} classes between are in per_class.parquet</p>" if len(order) > CLASSES else "</p>"
    )
    return f'<div class="table"><table><thead><tr>{head}<tbody>{"".join(rows)}</table></div>{key}{_alone(circuits)}'


def _step(said: Mapping[str, float] | None) -> str:
    return f"{said['before']:.2f} → {said['after']:.2f}" if said else ""


def _alone(circuits: Mapping[str, Any] | None) -> str:
    """Return what the columns of circuits are."""
    if not circuits:
        return ""
    least, most = (end(one["images"] for one in circuits["classes"]) for end in (min, max))
    images = ("the image" if most == 1 else f"the {most} images") if least == most else f"the {least} to {most} images"
    others = "at their means" if circuits["deleted"] == "mean" else "zero"
    errors = ", with what the concepts leave out of the image as it was" if circuits["errors"] == "kept" else ""
    return (
        f"<p class=note>Its circuit alone: the mean {circuits['reads']} of the class where the network runs on the "
        f"smallest circuit found for it (asked to keep {circuits['share']:.0%} of the network's), all other concepts "
        f"{others}{errors}, and the edit is applied to what the circuit puts in the layer's place. Beside it "
        f"the network itself. Both columns are before and after, on {images} of the class that its circuit was found "
        "on.</p>"
    )


def _fact(name: str) -> str:
    """Return the name of a causal fact as words: of menagerie, ``leopard_tag_added``: leopard, tag added."""
    who, _, what = name.partition("_")
    return f"{who}, {what.replace('_', ' ')}" if what else name.replace("/", " ")


def _facts(report: Mapping[str, Any]) -> str:
    facts = report["facts"]
    if not facts:
        return ""
    rows = []
    for name in [*facts["random"], *(name for name in facts["before"] if name not in facts["random"])][:FACTS]:
        random = _random(facts["random"], name, percent)
        rows.append(
            f"<tr><th>{escape(_fact(name))}<td class=value>{percent(facts['before'][name])}"
            f"<td class=value>{percent(facts['after'][name])}<td class=value>{random}"
        )
    head = "<th>shortcut and parts<th class=value>before<th class=value>after<th class=value>random edits"
    counts = ", ".join(f"{n:,} {_fact(name)}" for name, n in facts["counts"].items() if name != "plain")
    note = (
        f"{facts['scenes']:,} {facts['what']} ({counts}): how many are called by the class of the shortcut, where "
        "one is added or a part is erased from it; by the class that a part was swapped for; and rightly, elsewhere."
    )
    return (
        f"<section><h2>What the model relies on</h2><p class='note'>{escape(note)}</p>"
        f'<div class="table"><table><thead><tr>{head}<tbody>{"".join(rows)}</table></div></section>'
    )


def _edits(report: Mapping[str, Any]) -> str:
    lines = []
    for one in report["edits"]:
        for change in one["changes"]:
            lines.append(
                f"{one['layer']}, {one['channels']} channels, at the {one['place']}: {len(change['concepts'])} of "
                f"{one['concepts_of_layer']} concepts, which span {change['rank']} directions, gain {change['gain']:+g}"
            )
        fold = "It folds into the weights" if one["folds"] else f"It does not fold into the weights: {one['why_not']}"
        lines.append(f"{fold}.")
    random, draws = report["random"], report["random"]["draws"]
    if draws:
        lines.append(
            f"Random edits: {draws} draws (seed {random['seed']}) of as many other concepts of the same layers; mean, "
            "and least to most."
        )
    lines.append(
        f"Run {report['run']}, concepts by {report['method']}, weights {report['weights']}, gigraph "
        f"{report['gigraph']}."
    )
    items = "".join(f"<p class='note'>{escape(line)}</p>" for line in lines)
    return f"<section><h2>How</h2>{items}</section>"
