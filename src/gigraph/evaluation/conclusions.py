"""What the evaluation found, in at most six sentences: each with its numbers, their errors, and of how many.

Up to its first semicolon a sentence is short, and stands by itself where there is no room for more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from gigraph.evaluation.compared import FLOOR, leads, over_seeds, own_size, trained
from gigraph.evaluation.measures import mean
from gigraph.evaluation.orders import arranged, title
from gigraph.evaluation.titles import VALUE, shown
from gigraph.evaluation.verdicts import ALIKE, WORSE, mark
from gigraph.method.share import share
from gigraph.records.paths import NETWORKS
from gigraph.reserved import CLASSES

FEW = 20
"""Images, edges or concepts below which they are called few."""
SURE = 2
"""Standard errors that a lead must be above 0 by."""
NAMED = 5
"""Measures that are named; the others are counted."""
HEADING = "## What was found"
"""Of the section of the page that holds the sentences, each a line that begins with `POINT`."""
POINT = "- "

Row = dict[str, Any]


def conclusions(topics: Mapping[str, pl.DataFrame], told: pl.DataFrame, method: str, own: str) -> list[str]:
    """Return the sentences; what was not measured is passed over.

    Parameters
    ----------
    topics : mapping of str to DataFrame
        The tables ``measures`` by topic, and ``comparison``.
    told : DataFrame
        What `gigraph.evaluation.summary.judged` returns of the table ``sanity``.
    method : str
        The extractor of the graph.
    own : str
        The graph's attribution method.
    """
    classes, compared = (topics.get(topic, pl.DataFrame()) for topic in ("classes", "comparison"))
    if len(classes) and shown(classes["metric"]) == VALUE:
        compared = pl.DataFrame()  # a larger value is not better
    found = (
        _kept(_of(topics, "classes", method), method),
        _beyond_random(compared, method),
        _ordered(_of(topics, "interlayer", method), own),
        _causal(_of(topics, "edges", method)),
        _stable(_of(topics, "stability", method)),
        _proves_nothing(told, own),
    )
    return [sentence for sentence in found if sentence]


def head(sentence: str) -> str:
    """Return what of a sentence stands by itself, without its end."""
    return sentence.partition("; ")[0].removesuffix(".")


def section(sentences: Sequence[str]) -> list[str]:
    """Return the sentences as parts of a page; none, no section."""
    return [HEADING, "\n".join(POINT + one for one in sentences)] if sentences else []


def own_reconstruction(frame: pl.DataFrame) -> str:
    """Return what a run's own table ``reconstruction`` says, in a sentence; nothing of a table without images."""
    parts: list[str] = []
    for begins, words in (("", "attributed image"), ("unseen_", "image")):
        columns = [begins + name for name in ("images", "logit", "agreement")]
        if not {*columns} <= {*frame.columns}:
            continue
        some = frame.select("layer", *(pl.col(one).alias(one.removeprefix(begins)) for one in columns))
        rows = [row for row in some.iter_rows(named=True) if row["images"] > 0]
        if not rows:
            continue
        of = _number((row["images"] for row in rows), words, ",")
        errors = {row["layer"]: row[f"{begins}logit_se"] for row in frame.iter_rows(named=True)}
        kept = _range({row["layer"]: (row["logit"], errors[row["layer"]]) for row in rows}, percent=True)
        same = _span((row["agreement"] for row in rows), percent=True)
        that = " that no concept was found on" * bool(begins)
        decision = f"{kept} of the decision and " if kept else ""
        whose = "they" if parts else "the concepts of a layer"
        parts.append(f"{of}{that} {whose} keep {decision}{same} of the predictions")
    return f"On {'; on '.join(parts)}." if parts else ""


# ---- the sentences ------------------------------------------------------------------------------------------


def _kept(rows: Sequence[Row], method: str) -> str:
    """Say what is kept of the decision: of a regression nothing, whose values are not better for being larger."""
    by = {(row["layer"], row["metric"]): row for row in rows if row["target"] == CLASSES}
    shares: dict[str, tuple[float, float | None]] = {}
    at_x: dict[str, Row] = {}
    counts: set[int] = set()
    for (layer, metric), row in by.items():
        other = by.get((layer, "probability_at_x"))
        if metric == "probability_at_concepts" and other is not None and len(other["values"]) == len(row["values"]):
            there, before = (np.asarray(of["values"], np.float64) for of in (row, other))
            known = np.isfinite(there) & np.isfinite(before)
            shares[layer] = share(before[known], there[known], np.zeros(known.sum()))
            at_x[layer] = other
            counts.add(int(known.sum()))
    if not (kept := _range(shares, percent=True)):
        return ""
    of = _number(counts, "evaluated image", ",")
    whole = next(iter(at_x.values()))
    said = f"On {of} {method} keeps {kept} of a class probability of {_with(whole['value'], whole['se'])}"
    first = {name: [row for (_, metric), row in by.items() if metric == f"accuracy_at_{name}"]
             for name in ("concepts", "x")}  # fmt: skip
    if all(first.values()):
        ends = _range({row["layer"]: (row["value"], row["se"]) for row in first["concepts"]}, percent=True)
        itself = _with(first["x"][0]["value"], first["x"][0]["se"], percent=True)
        said += f"; the class is recognised in {ends} of them, at the layer itself in {itself}"
    return f"{said}."


def _beyond_random(compared: pl.DataFrame, method: str) -> str:
    """Say where the graph's extractor leads random PFVs, by the coder of the run."""
    if not len(compared):
        return ""
    some = [row for row in compared.iter_rows(named=True) if row["method"] in (method, FLOOR)]
    run = {row["reading"] for row in some if row["network"] == NETWORKS[1]}  # the shuffled one has no other coder's
    mine = own_size(trained(over_seeds(some)))
    sets = []
    for metric, words in (
        ("probability_at_concepts", "class probability"), ("insertion_minus_deletion", "C-Insertion minus C-Deletion"),
    ):  # fmt: skip
        rows = [row for row in leads(mine) if row["metric"] == metric and row["reading"] in run]
        sets.append((words, [row for row in rows if row["reading"] == rows[0]["reading"] and _is(row["value"])]))
    if not sets[0][1]:
        return ""
    (what, rows), (other, others) = sets
    of = _number((row["n"] for row in rows), "evaluated image")
    said = (
        f"Concepts of {method} lead random PFVs in {what} by more than {SURE} standard errors in "
        f"{_count(rows, 'layer')} ({of}); {_where(rows)}"
    )
    return said + (f"; in {other} in {_count(others, 'layer')}, {_where(others)}." if others else ".")


def _ordered(rows: Sequence[Row], own: str) -> str:
    """Say where the graph's attribution method leads another one between layers."""
    others = arranged([row["order"] for row in rows], own)[2:-1]
    known = [row for row in rows if row["metric"] == f"{own}_gain_projection" and row["order"] in others[:1]]
    known = [{**row, "layer": f"{row['layer']} → {row['target']}"} for row in known if _is(row["value"])]
    if not known:
        return ""
    of = _number((row["n"] for row in known), "evaluated image")
    return (
        f"{title(own)} orders concepts between layers better than {title(others[0])} by more than {SURE} standard "
        f"errors in {_count(known, 'pair')} ({of}); {_where(known)}."
    )


def _causal(rows: Sequence[Row]) -> str:
    """Say how shown edges agree with the exact ablation."""
    by: dict[str, dict[str, Row]] = {}
    for row in rows:
        if _is(row["value"]):
            by.setdefault(row["metric"], {})[f"{row['layer']} → {row['target']}"] = row
    ranked = by.get("rank_correlation_shown", {})
    if not ranked:
        return ""
    of = _number((row["n"] for row in ranked.values()), "edge")
    ends = _range({pair: (row["value"], None) for pair, row in ranked.items()})
    pairs = f"{len(ranked)} pair{'s' * (len(ranked) != 1)}"
    said = f"Shown edges have a rank correlation of {ends} with exact ablation ({pairs} of {of})"
    if same := by.get("same_sign_shown"):
        said += f"; the ablation's sign in {_span((row['value'] for row in same.values()), percent=True)} of them"
    if at_x := by.get("rank_correlation_at_x"):
        said += f"; deleted from X itself they have one of {_span(row['value'] for row in at_x.values())}"
    return f"{said}."


def _stable(rows: Sequence[Row]) -> str:
    """Say where concepts are found again beyond chance, paired by concept."""
    by = {(row["layer"], row["metric"]): row for row in rows}
    found, ends = [], []
    for (layer, metric), row in by.items():
        chance = by.get((layer, "stability_chance"))
        if metric == "stability" and chance is not None and len(chance["values"]) == len(row["values"]):
            lead = mean(np.asarray(row["values"], np.float64) - np.asarray(chance["values"], np.float64))
            found.append({"layer": layer, "value": lead.value, "se": lead.se, "n": lead.n})
            ends.append((layer, row, chance))
    if not (found := [row for row in found if _is(row["value"])]):
        return ""
    again, by_chance = ({layer: (rows[i]["value"], rows[i]["se"]) for layer, *rows in ends} for i in range(2))
    return (
        f"Concepts are found again under other seeds beyond chance, by more than {SURE} standard errors, in "
        f"{_count(found, 'layer')} ({_number((row['n'] for row in found), 'concept')}); {_where(found)}; the mean "
        f"cosine is {_range(again)}, of as many PFVs at random {_range(by_chance)}."
    )


def _proves_nothing(told: pl.DataFrame, own: str) -> str:
    """Say which measures do not rate this network above the shuffled one: first those of the other sentences."""
    if not len(told):
        return ""
    order = ("stability", "stability"), ("interlayer", f"{own}_gain_projection"), ("reconstruction", "rel_l2")
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in told.iter_rows(named=True):
        groups.setdefault((row["topic"], row["metric"], row["row"]), []).append(row)
    useless = [at for at, rows in groups.items() if mark(*at[:2], rows).strip(" ()") in (ALIKE, WORSE)]
    if not useless:
        return ""
    useless.sort(key=lambda at: order.index(at[:2]) if at[:2] in order else len(order))
    names = list(dict.fromkeys(_low(name) for *_, name in useless))
    more = f"; and {len(names) - NAMED} more" if len(names) > NAMED else ""
    say, prove = ("s say", "prove") if len(names) > 1 else (" says", "proves")
    return (
        f"{len(names)} measure{say} as much or more of the same network with its weights shuffled, and so {prove} "
        f"nothing of this one; {'; '.join(names[:NAMED])}{more}."
    )


# ---- words --------------------------------------------------------------------------------------------------


def _of(topics: Mapping[str, pl.DataFrame], topic: str, method: str) -> list[Row]:
    frame = topics.get(topic, pl.DataFrame())
    return frame.filter(pl.col("method") == method).to_dicts() if len(frame) else []


def _is(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _with(value: float, se: float | None, percent: bool = False) -> str:
    """Return a number with its standard error, where it has one."""
    text = f"{value:.0%}" if percent else f"{value:.3f}"
    if se is None or not math.isfinite(se):
        return text
    return f"{text} ± {se:.0%}" if percent else f"{text} ± {se:.3f}"


def _range(numbers: Mapping[str, tuple[float, float | None]], percent: bool = False) -> str:
    """Return the least and the largest of some numbers, each with its error and its place; nothing of none."""
    known = {place: one for place, one in numbers.items() if _is(one[0])}
    ends = [pick(known, key=lambda place: known[place][0]) for pick in (min, max)] if known else []
    return " to ".join(f"{_with(*known[place], percent)} ({place})" for place in dict.fromkeys(ends))


def _span(values: Iterable[float], percent: bool = False) -> str:
    known = [value for value in values if _is(value)]
    return " to ".join(dict.fromkeys(_with(pick(known), None, percent) for pick in (min, max)))


def _number(counts: Iterable[int], what: str, after: str = "") -> str:
    """Return of how many, and that they are few where they are, with a comma ``after`` it."""
    known = sorted(set(counts))
    ends = " to ".join(f"{count:,}" for count in dict.fromkeys((known[0], known[-1])))
    return f"{ends} {what}{'s' * (known[-1] != 1)}{f', few{after}' * (known[0] < FEW)}"


def _sure(row: Row) -> int:
    """Return 1 where a lead is above 0 by more than `SURE` standard errors, -1 below, else 0: also without an error."""
    return 0 if not _is(row["se"]) or abs(row["value"]) <= SURE * row["se"] else 1 if row["value"] > 0 else -1


def _count(rows: Sequence[Row], what: str) -> str:
    return f"{sum(_sure(row) > 0 for row in rows)} of {len(rows)} {what}{'s' * (len(rows) != 1)}"


def _where(rows: Sequence[Row]) -> str:
    """Return where there is a lead, where there is none, and where it is the other way round."""
    found = []
    for sign, words in ((1, "ahead in"), (0, "not in"), (-1, "behind in")):
        if some := [f"{row['layer']} ({_with(row['value'], row['se'])})" for row in rows if _sure(row) == sign]:
            found.append(f"{words} {' and '.join(filter(None, (', '.join(some[:-1]), some[-1])))}")
    return ", ".join(found)


def _low(name: str) -> str:
    """Return a title within a sentence."""
    return name[0].lower() + name[1:] if name[1:2].islower() else name
