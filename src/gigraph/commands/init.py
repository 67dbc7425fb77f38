"""Write a commented configuration for your own model and images: gigraph.yaml, which `gigraph run` takes by itself.

What no option says is asked on a terminal. Layers are proposed from the network (see `gigraph layers`). Image folder,
model and layers are looked at before anything is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigraph.commands.layers import (
    SIZE,
    add_model_arguments,
    arguments_of,
    channels_of,
    opened,
    preset_side,
    table,
    written,
)

if TYPE_CHECKING:
    from gigraph.model.network import Network
    from gigraph.planning.plan import Plan

ZERO_ONE = {"mean": "0 0 0", "std": "1 1 1"}
"""Of pixels that go in as they are."""
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""What most networks of photographs were trained with."""
WORLD = "menagerie"
"""Stands for the model, or the images, while something else is looked at."""
BEST = "DEFAULT"
"""Torchvision's name for the weights of a model that it thinks best; without a name they are random."""
HEAD = "num_classes"
"""The argument of torchvision's and timm's models that says how many outputs they have."""
PHOTOGRAPHS = 160
"""Side of an input from which on networks are commonly tested on the middle of larger pictures (256 for 224)."""
SHARD = 5000
"""Images that make a job of some minutes."""

TEXT = """\
# What gigraph explains, and how. Paths start from the folder that this is run in:
#   {run} -n
#   {plan}
#   {run}
# The first says what would run, the second what it will cost; the third ends with the explorer in {output}/.
# Whatever is not said here keeps its default: {defaults} lists and explains every key.

# Folder of the results.
output: {output}

images:
  # A folder with one sub-folder per class; sorted by name, they are the model's outputs in order. Of ImageNet's 1,000
  # some will do, named by WordNet id. A folder of pictures without sub-folders is labelled by what the model says.
  source: {images}
  # Folder name of each output in the outputs' order, or such as {{tench: 0, goldfish: 1}}; null: as said above.
  classes: null
  # {count:,} images lie there. Each shard is one job per step: some thousand images make jobs of minutes.
  shards: {shards}

model:
  # torchvision:NAME, timm:NAME, path/to/file.py:factory, or package.module:factory.
  source: {model}
  # A torchvision weights name (IMAGENET1K_V2, or DEFAULT, the best ones), or a checkpoint (.safetensors, .pth, .ckpt).
  # null: the source's own (a factory's); of torchvision and timm these are random, which only `random` takes.
  weights: {weights}
  # Keyword arguments of the constructor or factory.
  arguments: {arguments}
  # classes (exclude each other), labels (may be true together), binary (one logit), regression (one value), or auto: by
  # the softmax or sigmoid that the model ends in; several outputs without one are classes.
  task: {task}

# As in the training. null: as the weights' own preset says, where there is one.
preprocessing:
  # Shorter side of the picture in pixels; then the middle is cropped.
  resize: {resize}
  crop: {crop}
  channels: {channels}
  mean: {mean}
  std: {std}

# From input to output; a wrong name is answered with the nearest right ones. Those that this network has, and why these
# are good choices:  {layers_command}
layers:
{layers}

concepts:
  # Concepts per channel: 1 with a few thousand images, the paper's 8 with 50,000. Whatever stands here, of {count:,}
  # images at most {most:,} concepts a layer are made, and what few images show may be chance.
  expansion: 1

coefficients:
  # The fewest concepts a position that keep 90% of the model's decision, 32 at most: what a trained network of real
  # photographs needs. The paper's lasso: leave these three lines out.
  method: pursuit
  penalty: decision
  value: 0.9

# Attribution costs most. At first few images of each class are enough, and of many classes a few that matter.
attribution:
  # A list of names, or a number, those with the most images; null: all.
  classes: null
  images_per_class: 20

explorer:
  # What its page is called.
  title: {title}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("--model", help="as model.source: torchvision:resnet50, timm:NAME, path/to/file.py:factory, ...")
    add("--weights", help="as model.weights: a name, or a checkpoint's file")
    add("--images", help="folder with one sub-folder per class, or of pictures")
    add("--layers", nargs="+", metavar="LAYER", help="from input to output (default: as proposed)")
    add("--resize", type=int, help="shorter side after resizing in pixels, before the crop to --size")
    add(
        "--mean",
        type=float,
        nargs="+",
        help="of each channel, for pixels of 0 to 1 (default: the preset's, or ImageNet's)",
    )
    add("--std", type=float, nargs="+", help="of each channel")
    add("--output", default="results", help="folder of the results (default: results)")
    add("--file", type=Path, default=Path("gigraph.yaml"), help="to write (default: gigraph.yaml)")
    add("--force", action="store_true", help="write it over one that is there")
    add_model_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Ask what is missing, look at it, and write the file."""
    from gigraph.errors import UserError
    from gigraph.planning.config import OWN

    if args.file.exists() and not args.force:
        raise UserError(f"{args.file} is there already; edit it, or write it anew with --force")
    if not args.file.parent.is_dir():
        raise UserError(f"--file: there is no folder {args.file.parent}; make it first")
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    missing = [f"--{name}" for name in ("model", "images") if not getattr(args, name)]
    if missing and not asks:
        raise UserError(f"give {' and '.join(missing)}: there is no terminal to ask on (gigraph init --help)")
    raw, network = settings(args, asks)
    plan = planned(raw)
    args.file.write_text(text(raw, network, plan, args.file), encoding="utf-8")
    folders = len(plan.class_folders)
    if (
        folders
        and not plan.labelled_by_outputs
        and network.task in ("classes", "labels")
        and folders != network.outputs
    ):
        print(f"note: {folders} class folders, {network.outputs} outputs; say in images.classes whose they are")
    if plan.root.exists():
        print(f"note: what {plan.root} holds of another run is made anew; --output NAME leaves it")
    if raw["model"]["weights"] == BEST and not args.weights:
        print(f"note: torchvision's {BEST} weights are taken; model.weights names others")
    given = "" if args.file == OWN else f" --configfile {args.file}"
    print(f"wrote {args.file}; next: gigraph run{given} -n, gigraph plan{given}, gigraph run{given}")


def settings(args: argparse.Namespace, asks: bool) -> tuple[dict[str, Any], Network]:
    """Return what the file will say, and the traced model.

    Raises
    ------
    UserError
        If the images, the model or a layer are not there.
    """
    from gigraph.errors import UserError
    from gigraph.model.models import check_own_weights, check_source, load_model
    from gigraph.model.sources import LIBRARIES, is_weights_file

    given = {"output": args.output, "images": {"source": WORLD}, "model": {"source": WORLD}}
    given["layers"] = args.layers or ["any"]

    def with_files(**of: str | None) -> list[str]:
        return _plan({**given, "model": of}).model_files

    with_files(source=args.model or WORLD, weights=args.weights)  # what no answer could mend
    question = "The model (torchvision:resnet50, timm:NAME, path/to/file.py:factory)"

    def can_be(answer: str) -> None:
        check_source(answer)
        with_files(source=answer)

    model = args.model or _asked(question, check=can_be)
    weights = args.weights
    arguments = arguments_of(args.arguments)
    own = BEST if model.startswith("torchvision:") and HEAD not in arguments else None
    needed = own is None and model.partition(":")[0] in LIBRARIES
    if weights is None and asks and (needed or not args.model):

        def check(answer: str) -> None:
            with_files(source=model, weights=answer or None)
            check_own_weights(model, answer or own, arguments)

        kind = "a name such as IMAGENET1K_V2, or " if own else ""
        question = f"Its weights, {kind}a checkpoint's file (or random)"
        weights = _asked(question, own or ("" if needed else "the source's own"), check) or None
    weights = weights or own
    if needed and weights is None:
        raise UserError(
            f"give --weights, a checkpoint's file: those of {model} itself are random (which --weights random takes)"
        )
    raw: dict[str, Any] = {
        "output": args.output,
        "images": {"source": args.images},
        "model": {"source": model, "weights": weights, "arguments": arguments, "task": args.task},
        "layers": args.layers or ["any"],
    }
    if not args.images:
        question = "The folder of images, one sub-folder per class"
        raw["images"]["source"] = _asked(
            question, check=lambda answer: planned({**given, "images": {"source": answer}})
        )
    plan = planned(raw)  # before anything is loaded
    check_own_weights(model, weights, arguments)
    pictures = None if plan.drawn else plan.first_size
    if args.channels is None:
        side = args.size or preset_side(model) or SIZE
        args.channels = channels_of(load_model(model, arguments=arguments), side)
    raw["preprocessing"], side = _preprocessing(args, model, weights, asks, pictures)
    raw["images"]["shards"] = max(1, round(planned(raw).image_count / SHARD))
    network = opened(model, side, args.channels, arguments, args.task)
    own_head = _outputs(model, weights, arguments, network) if HEAD not in arguments else None
    if own_head is not None:
        arguments[HEAD] = own_head
        print(f"{weights} has {own_head} outputs, so model.arguments: {{{HEAD}: {own_head}}}")
        network = opened(model, side, args.channels, arguments, args.task)
    if weights is not None and is_weights_file(weights):
        load_model(model, weights=weights, arguments=arguments)  # or it would be told by the first run only
    raw["layers"] = args.layers or _layers(network, asks)
    network.check_order(raw["layers"])
    return raw, network


def _outputs(model: str, weights: str | None, arguments: dict[str, Any], network: Network) -> int | None:
    """Return how many outputs the user's weights are for, if it is another number than the model's."""
    from gigraph.model.checkpoints import outputs_in
    from gigraph.model.models import load_model
    from gigraph.model.sources import is_weights_file

    if weights is None or not is_weights_file(weights) or model.partition(":")[0] not in ("torchvision", "timm"):
        return None
    return outputs_in(Path(weights), load_model(model, arguments=arguments), network.outputs)


def planned(raw: dict[str, Any]) -> Plan:
    """Return the plan of a configuration, after a look at all that can be judged before a run."""
    plan = _plan(raw)
    plan.check()
    return plan


def _plan(raw: dict[str, Any]) -> Plan:
    from gigraph.planning.config import PROJECT, load
    from gigraph.planning.plan import Plan

    return Plan(load(raw), PROJECT / "workflow" / "scripts")


def _preprocessing(
    args: argparse.Namespace, model: str, weights: str | None, asks: bool, pictures: Sequence[int] | None
) -> tuple[dict[str, Any], int | None]:
    """Return the section of that name, and the side of the network's input."""
    from gigraph.model.models import preset_of
    from gigraph.worlds import registry as worlds

    found: dict[str, Any] = {"resize": args.resize, "crop": args.size, "channels": None}
    found |= {"mean": args.mean, "std": args.std}
    if args.channels != 3:
        found["channels"] = args.channels
    if model in worlds.NAMES:
        return found, args.size or preset_side(model)
    preset = preset_of(model, weights)
    if preset is not None:
        return found, args.size or preset["crop"]
    # Weights of one's own were trained on pictures like these, which are seldom enlarged.
    own = preset_side(model) or 224
    side = args.size or (min(own, *pictures) if pictures else own)
    if asks and args.size is None:
        told = f" (the first picture is {pictures[0]} x {pictures[1]})" if pictures else ""
        side = _number(f"Side in pixels of the pictures that it was trained on, after the crop{told}")
    resize = args.resize or (round(side * 256 / 224) if side >= PHOTOGRAPHS else side)
    if asks and args.resize is None:
        resize = _number("Shorter side that a picture is resized to before the crop, in pixels", resize)
    else:
        trained = "" if args.size else "; if it was trained on another size, its numbers and its graph are wrong"
        print(f"note: pictures are resized to {resize} pixels and cropped to {side} (--resize, --size){trained}")
    found |= {"resize": resize, "crop": side}
    if args.mean is None and args.std is None and args.channels == 3:
        other = asks and not _yes("Was it trained on pixels with ImageNet's mean and standard deviation")
        found |= IMAGENET
        if not asks:
            print("note: ImageNet's mean and standard deviation are taken (--mean, --std)")
        for key, name in (("mean", "Its mean"), ("std", "Its standard deviation")) if other else ():
            found[key] = _three(f"{name}, three numbers for pixels of 0 to 1", ZERO_ONE[key])
    return found, side


def _layers(network: Network, asks: bool) -> list[str]:
    """Return the proposed layers, or those that the user prefers."""
    from gigraph.errors import UserError
    from gigraph.model.proposing import judged

    good = [one.layer.name for one in judged(network) if one.good]
    if not good:
        raise UserError(
            f"{network.name} has no cut point with positions that could be proposed; name layers with --layers "
            "(gigraph layers lists them)"
        )
    if not asks:
        return good
    print(f"\n{table(network)}\n")

    def in_order(answer: str) -> None:
        network.check_order(answer.split() or good)

    return _asked("Layers, separated by spaces", " ".join(good), in_order).split() or good


def text(raw: dict[str, Any], network: Network, plan: Plan, file: Path) -> str:
    """Return the file's text."""
    from gigraph.errors import one_line
    from gigraph.planning.config import OWN, PROJECT, Concepts, Sampling

    model, preprocessing, count = raw["model"], raw["preprocessing"], plan.image_count
    given = "" if file == OWN else f" --configfile {file}"
    size = f" --size {network.image_shape[1]}" if preset_side(model["source"]) != network.image_shape[1] else ""
    size += f" --channels {network.image_shape[0]}" if network.image_shape[0] != 3 else ""
    more = f" --arguments '{json.dumps(model['arguments'])}'" if model["arguments"] else ""
    return TEXT.format(
        run=f"gigraph run{given}",
        plan=f"gigraph plan{given}",
        defaults=one_line(PROJECT / "config.yaml"),
        output=written(raw["output"]),
        images=written(raw["images"]["source"]),
        count=count,
        shards=raw["images"]["shards"],
        model=written(model["source"]),
        weights=written(model["weights"]),
        arguments=written(model["arguments"]),
        task=written(model["task"]),
        layers_command=one_line(f"gigraph layers {model['source']}{size}{more}"),
        layers="\n".join(f"  - {written(name)}" for name in raw["layers"]),
        title=written(plan.title),
        most=count * Sampling().pfvs_per_image // Concepts().min_members,
        **{key: written(value) for key, value in preprocessing.items()},
    )


def _asked(question: str, otherwise: str = "", check: Callable[[str], object] = bool) -> str:
    """Return what the user answers; without a default until there is an answer, and one that holds."""
    from gigraph.errors import UserError, one_line

    while True:
        try:
            answer = input(f"{question}{f' [{otherwise}]' if otherwise else ''}: ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            raise UserError("nothing was written; give what is asked, or the options (gigraph init --help)") from None
        if not (answer or otherwise):
            print("an answer is needed here")
            continue
        try:
            check(answer)
        except UserError as error:
            print(one_line(error))
        else:
            return answer


def _number(question: str, otherwise: int | None = None) -> int:
    from gigraph.errors import UserError

    def whole(answer: str) -> None:
        if answer and not (answer.isascii() and answer.isdigit() and int(answer) > 0):
            raise UserError(f"{answer!r} is no whole number of pixels")

    return int(_asked(question, str(otherwise or ""), whole) or otherwise or 0)


def _three(question: str, otherwise: str) -> list[float]:
    from gigraph.errors import UserError

    def numbers(answer: str) -> list[float]:
        try:
            found = [float(one) for one in (answer or otherwise).replace(",", " ").split()]
        except ValueError:
            found = []
        if len(found) != 3:
            raise UserError(f"{answer!r} is no three numbers, such as {otherwise}")
        return found

    return numbers(_asked(question, otherwise, numbers))


def _yes(question: str) -> bool:
    return _asked(question, "yes").lower() in ("", "y", "yes")
