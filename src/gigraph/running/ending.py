"""What a run says of itself: what it is going to do, where to look at its end, what was found, and what to mind."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gigraph.errors import UserError, one_line
from gigraph.method.share import range_of
from gigraph.planning.plan import Plan
from gigraph.records import tables
from gigraph.reserved import CLASSES
from gigraph.running.console import EARLY
from gigraph.running.current import current
from gigraph.running.record import read_receipt
from gigraph.version import __version__

NOTES = 6
"""Remarks that are shown; the others are in ``run.json``."""
CAUSES = 3
"""Classes whose strongest cause is named."""
EVALUATED, WIDE = 2, 150
"""Sentences of a finished evaluation that are shown, and how long they may be."""


def beginning(plan: Plan, jobs: int, logs: Sequence[str]) -> str:
    """Return what a run that begins says: what is explained, and where all words go.

    Parameters
    ----------
    plan : Plan
    jobs : int
        That will run.
    logs : sequence of str
        Snakemake's own.
    """
    return "\n".join(
        [
            f"{_subject(plan)}: {jobs:,} job{'s' * (jobs != 1)}",
            f"log: {', '.join(logs) or 'none'}; of each job in {plan.results('logs')}/ (--verbose shows all here)",
            *_warnings(plan),
        ]
    )


def rehearsal(plan: Plan, due: Mapping[str, int], control: int, jobs: int) -> str:
    """Return what a dry run says: what would run.

    Parameters
    ----------
    plan : Plan
    due : mapping of str to int
        Jobs of each stage that would run.
    control : int
        Those of the network with its weights shuffled.
    jobs : int
        All that there are.
    """
    count = sum(due.values()) + control
    rows = {stage: number for stage, number in due.items() if number}
    if control:
        rows["the same with the weights shuffled (evaluation.control)"] = control
    wide = max(map(len, rows), default=0)
    others = max(0, jobs - count)
    done = {0: "", 1: "; 1 other is done"}.get(others, f"; {others:,} others are done")
    return "\n".join(
        [
            f"{_subject(plan)}: {count:,} job{'s' * (count != 1)} would run{done}",
            *(f"  {stage:{wide}}  {number:6,}" for stage, number in rows.items()),
            *_warnings(plan),
        ]
    )


def looked(subject: Any, classes: Sequence[str]) -> list[str]:
    """Return what a first look at the model says.

    Parameters
    ----------
    subject : gigraph.subject.Subject
    classes : sequence of str
    """
    network = subject.traced
    channels, height, width = network.image_shape
    names = f"{', '.join(map(one_line, classes[:3]))}{', ...' * (len(classes) > 3)}"
    layers = (
        f"{layer.name} ({layer.channels:,} channels, {layer.grid[0]} x {layer.grid[1]})"
        for layer in subject.layers.values()
        if layer.name != CLASSES
    )
    return [
        f"  model: {channels} x {height} x {width} in, {len(classes):,} outputs ({network.task}): {names}",
        f"  layers: {', '.join(layers)}",
    ]


def _subject(plan: Plan) -> str:
    config = plan.config
    model = config.model.source
    what = (
        f"{model}'s own model on {plan.image_count:,} drawn images"
        if plan.drawn and config.images.source == model
        else f"{model} on {plan.image_count:,} images of {config.images.source if plan.drawn else plan.image_folder}"
    )
    return (
        f"gigraph {__version__}: {what}, layers {', '.join(plan.layers)}, {', '.join(config.methods)}, to {plan.root}"
    )


def _warnings(plan: Plan) -> list[str]:
    """Return what to mind before a run."""
    found = _written_over(plan)
    if plan.untrained:
        found.append(f"warning: the weights of {plan.config.model.source} are random: a graph of them says nothing")
    if plan.takes_plain_pixels:
        none, one = ([number] * plan.config.preprocessing.depth for number in (0, 1))
        found.append(
            "warning: preprocessing.mean and std are not given, and nothing tells them of these weights: pixels go in "
            f"as 0 to 1; give those of the training, or mean: {none} and std: {one} if that is what it saw"
        )
    if plan.enlarges is not None:
        (width, height), side = plan.enlarges
        found.append(
            f"warning: pictures are small (the first {width} x {height}) and enlarged to {side}: right only if the "
            "training did so (preprocessing.resize and crop)"
        )
    return found


def _written_over(plan: Plan) -> list[str]:
    """Return a warning where the folder of results holds a finished run of another model, other weights or images."""
    try:
        before = read_receipt(plan.results("run"))["config"]
        model, weights, images = before["model"]["source"], before["model"]["weights"], before["images"]["source"]
    except (KeyError, TypeError):  # no run.json, or not one that a run wrote
        return []
    now = plan.config.model.source, plan.config.model.weights, plan.config.images.source
    if [Path(str(one)).resolve() for one in (model, weights, images)] == [Path(str(one)).resolve() for one in now]:
        return []
    held = one_line(f"{model}{f' with {weights}' * bool(weights)}{f' on {images}' * (images != model)}")
    return [
        f"warning: {plan.root} holds a graph of {held}: what differs is written over; another output in the "
        "configuration keeps both"
    ]


def ending(plan: Plan, told: Sequence[str], notes: Mapping[str, Sequence[str]], seconds: str) -> list[str]:
    """Return what a run that has come to its end says.

    Parameters
    ----------
    plan : Plan
    told : list of str
        What was found.
    notes : mapping of str to list of str
        The remarks of each job.
    seconds : str
        What it took, as people say it.
    """
    lines = [f"gigraph: done in {seconds}{_where(plan)}", *(f"  {line}" for line in told)]
    own = plan.config.methods
    compared = {f"{method}/" for method in plan.config.evaluated if method not in own}
    # First what all rests on, whether the model knows these images; last what is only compared with the graph.
    jobs = sorted(notes, key=lambda job: (job not in EARLY, job.startswith(tuple(compared))))
    remarks = list(dict.fromkeys(one_line(text) for job in jobs for text in notes[job]))
    lines += [f"  note: {text}" for text in remarks[:NOTES]]
    if len(remarks) > NOTES:
        lines.append(f"  {len(remarks) - NOTES} more notes stand in {plan.results('run')}")
    return lines


def resting(plan: Plan) -> str:
    """Return what is said where all that was asked for is made already: where to look, if there is something.

    Parameters
    ----------
    plan : Plan
    """
    return f"Nothing to be done (all requested files are present and up to date){_where(plan)}"


def found(plan: Plan) -> list[str]:
    """Return what a finished evaluation tells, else a finished graph: before there is one nothing.

    Where the tables cannot be read a remark says so.
    """
    if not _pages(plan):
        return []
    try:
        told = of_evaluation(Path(plan.results("summary"))) if _is_current(plan, "summary") else []
        return told or in_tables(plan)
    except UserError as error:  # what is made stays made
        return [f"note: what was found cannot be told: {one_line(error)}"]


def _where(plan: Plan) -> str:
    pages = _pages(plan)
    return f"; open {' and '.join(map(str, pages))}" if pages else ""


def _pages(plan: Plan) -> list[Path]:
    """Return the pages that are made and current."""
    return [plan.results(name) for name in ("explorer", "summary") if _is_current(plan, name)]


def of_evaluation(page: Path) -> list[str]:
    """Return the first sentences of an evaluation's page, each up to its first semicolon; none where it has none."""
    _, _, after = page.read_text().partition("\n## What was found\n")
    lines = [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("- ")]
    heads = (line.removeprefix("- ").partition("; ")[0].removesuffix(".") for line in lines[:EVALUATED])
    return [textwrap.shorten(one_line(head), WIDE, placeholder=" ...") for head in heads]


def in_tables(plan: Plan) -> list[str]:
    """Return what stands in the tables: how good the model is, what its concepts keep, and the strongest causes."""
    method = plan.config.methods[0]
    measured = _frame(plan.results("reconstruction", method=method), "logit", "images")
    lines = [", ".join(_recognised(plan))]
    if keep := range_of(measured.filter(pl.col("images") > 0)["logit"]):
        lines[0] += f"; of the decisions about them the concepts of each layer keep {keep}"
    if plan.config.model.task == "regression":
        return lines
    layer = plan.layers[-1]
    names = dict(_frame(plan.results("classes"), "label", "class").rows())
    columns = ("scope", "source_layer", "source", "target_layer", "target", "mean")
    strongest = causes(_frame(plan.results("edges", method=method), *columns), layer)[:CAUSES]
    told = [f"{one_line(names.get(scope, scope))} by #{source} ({share:.0%})" for scope, source, share in strongest]
    return [*lines, f"strongest causes in {layer}: {', '.join(told)}"] if told else lines


def causes(edges: pl.DataFrame, layer: str) -> list[tuple[int, int, float]]:
    """Return (class, its strongest concept, share of all that is attributed) of each class, the largest share first."""
    own = edges.filter(source_layer=layer, target_layer=CLASSES).filter(pl.col("target") == pl.col("scope"))
    shares = own.with_columns(share=pl.col("mean") / pl.col("mean").abs().sum().over("scope"))
    best = shares.filter(pl.col("source") >= 0, pl.col("mean") > 0).sort("share", "scope", descending=[True, False])
    return best.unique("scope", keep="first", maintain_order=True).select("scope", "source", "share").rows()


def _recognised(plan: Plan) -> list[str]:
    """Return how many images there are, and how many of them the model knows where they have labels."""
    images = _frame(plan.results("images"), "label", "predicted")
    if plan.unlabelled or images.is_empty():
        return [f"{len(images):,} images"]
    right = (images["label"] == images["predicted"]).to_numpy().mean()
    return [f"{len(images):,} images", f"{right:.1%} recognised"]


def _frame(path: Path, *columns: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(tables.read(path, list(columns))))


def _is_current(plan: Plan, name: str) -> bool:
    stage = {"explorer": "explorer", "summary": "evaluation_tables"}[name]
    path = Path(plan.results(name))
    receipt = plan.results("logs") / f"{stage}.json"
    return path.exists() and current({str(path): plan.lineage(stage)}, receipt)
