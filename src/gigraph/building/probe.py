"""A model made in a fresh process, as a run's jobs make it, and what it says of a few images.

``python -m gigraph.building.probe CONFIG FILE`` also opens the run as its jobs do, so that a layer that is not there is
named before anything is started.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gigraph.errors import UserError, one_line
from gigraph.images.decoding import Picture, Unreadable, decode
from gigraph.images.listing import labelled
from gigraph.model.models import load_model
from gigraph.model.outputs import leaves
from gigraph.planning.config import PROJECT, load, read
from gigraph.planning.plan import Plan
from gigraph.subject import Subject

IMAGES = 4
"""Of the data set that a model looks at; noise is added."""
NOISE = (1.0, 8.0)
"""Standard deviations of images of noise, the second beyond what images are, for bounds such as that of a ReLU6."""
INPUT = "input"
SAID = "said:"
"""How keys begin of what a model returns."""


def main(config: str, out: str) -> None:
    """Write the images and what the model says of them; or, as JSON, what a user can mend."""
    try:
        plan = Plan(load(read([Path(config)])), PROJECT / "workflow" / "scripts")
        plan.check()
        x = inputs(plan)
        given = {key: plan.model_settings[key] for key in ("weights", "arguments")}
        found = {INPUT: x, **says(load_model(plan.config.model.source, **given), x)}
        save_file(found, out)
    except UserError as error:
        Path(out).write_text(json.dumps({"error": one_line(error)}))


def inputs(plan: Plan) -> Tensor:
    """Return images [N, C, H, W] as the network takes them: the first of some classes, and noise."""
    compute = plan.config.compute.model_copy(update={"device": "cpu"})
    subject = Subject(plan.network, compute, plan.layers)
    draw = torch.Generator().manual_seed(plan.config.seed)
    found = [scale * torch.randn(1, *subject.network.image_shape, generator=draw) for scale in NOISE]
    for picture in () if plan.drawn else pictures(plan):
        x = subject.inputs([subject.preprocessing.display(picture)])
        if x.shape[1:] == found[0].shape[1:]:
            found.insert(0, x)
        if len(found) == IMAGES + len(NOISE):
            break
    return torch.cat(found).contiguous()


def pictures(plan: Plan) -> Iterator[Picture]:
    """Yield images that can be read, a first one of every class before a second one of any."""
    entries = labelled(plan.image_folder, plan.listed_classes, plan.grouped)
    turn: dict[int, int] = {}
    ranks = []
    for entry in entries:
        turn[entry.label] = turn.get(entry.label, -1) + 1
        ranks.append(turn[entry.label])
    for _, entry in sorted(zip(ranks, entries, strict=True), key=lambda pair: pair[0]):
        try:
            yield decode(plan.image_folder / entry.path, plan.config.images.max_pixels, plan.config.preprocessing.depth)
        except Unreadable:
            continue


def says(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return every tensor that a model in eval mode returns for images, by where it is in what it returns."""
    with torch.inference_mode():
        found = leaves(model(x))
    return {f"{SAID}{path}": value.clone().contiguous() for path, value in found.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
