"""Take concepts out of the model, or make them stronger, and measure what that does.

The edited model is written so that it loads without gigraph; the report says what was gained and lost on which images,
beside as many random concepts. LAYER:CONCEPT[,CONCEPT...] and LAYER:family=N are ids as the graph shows them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("--run", type=Path, default=Path("results"), help="results folder of the finished run (default: results)")
    add("--suppress", action="append", default=[], metavar="LAYER:CONCEPTS", help="take out; may be given again")
    add("--boost", action="append", default=[], metavar="LAYER:CONCEPTS", help="make stronger; may be given again")
    add("--gain", type=float, help="of --boost: 1 doubles the part (default: 1)")
    add("--only-where", type=float, metavar="COSINE", help="only where the PFV's cosine to the concepts' mean is above")
    add("--images", type=Path, action="append", default=[], metavar="FOLDER", help="more images to measure on")
    add("--of", metavar="CLASS", help="the class that it is about; the others are counted together as well")
    add("--out", type=Path, help="folder to write to (default: edit in the run's folder)")
    add("--method", help="concept extractor; the first of the run if not given")
    add("--draws", type=int, default=10, help="random edits to compare with (default: 10)")
    add("--scenes", type=int, default=500, help="new scenes of a drawn world for its causal facts (default: 500)")
    add("--seed", type=int, default=0, help="of the random edits (default: 0)")


def main(args: argparse.Namespace) -> None:
    """Edit, measure, write, and say the result in a few lines."""
    from gigraph.edit import ACTIONS, Choice, Edited, edit
    from gigraph.errors import UserError
    from gigraph.planning.opening import plan_of

    choices = [Choice.parse(action, text) for action in ACTIONS for text in getattr(args, action)]
    if not choices:
        raise UserError("no concept is given; say --suppress LAYER:CONCEPT[,CONCEPT...] or --suppress LAYER:family=N")
    if args.gain is not None and not args.boost:
        raise UserError("--gain is of what is boosted; give --boost LAYER:CONCEPTS, or leave it out")
    if args.draws < 0 or args.scenes < 0:
        raise UserError("--draws and --scenes are numbers of at least 0")
    plan = plan_of(args.run)
    edited = Edited(plan, choices, 1.0 if args.gain is None else args.gain, args.only_where, args.method)
    out = args.out or plan.root / "edit"
    report = edit(edited, out, args.images, args.of, args.draws, args.seed, args.scenes)
    for line in said(report):
        print(line)
    print(f"{out / 'report.html'}")


def said(report: dict[str, Any]) -> list[str]:
    """Return the result in a few lines."""
    from gigraph.errors import one_line

    lines = []
    for one in report["edits"]:
        for change in one["changes"]:
            what = f"{change['action']} {len(change['concepts'])} of {one['concepts_of_layer']} concepts"
            lines.append(f"{one['layer']}: {what}, rank {change['rank']} of {one['channels']}; at the {one['place']}")
        lines.append(f"  folds into the weights: {'yes' if one['folds'] else 'no, ' + one['why_not']}")
    lines += [f"note: {note}" for note in report["notes"]]
    for section in report["images"]:
        parts = [("all", section["all"]), (f"all but {report['of']}", section.get("others"))]
        for name, one in parts:
            if one:
                before, after = one["accuracy"]["before"], one["accuracy"]["after"]
                random = (one["random"] or {}).get("change_of_accuracy")
                beside = f"; random {_points(random['mean'])}, at worst {_points(random['least'])}" if random else ""
                change = _points(one["change"]["of_accuracy"])
                where = one_line(f"{section['name']}, {name}, {one['images']:,} images")
                lines.append(f"{where}: {before:.1%} -> {after:.1%} ({change}{beside})")
    if report["facts"]:
        before, after, random = (report["facts"][key] for key in ("before", "after", "random"))
        for name, one in random.items():
            beside = f" (random {one['least']:.1%} to {one['most']:.1%})" if one else ""
            lines.append(f"{name}: {before[name]:.1%} -> {after[name]:.1%}{beside}")
    return lines


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"
