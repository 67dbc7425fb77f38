"""List the layers that a model can be cut at: their sizes, which are good choices, and why.

MODEL is what model.source in a configuration may be: torchvision:resnet50, timm:NAME, path/to/file.py:factory,
package.module:factory. Its weights are not loaded.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module

    from gigraph.model.network import Network
    from gigraph.model.proposing import Judged

SIZE = 224
"""Side of an image in pixels, where neither the user nor the weights' preset says it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", metavar="MODEL", help="as model.source")
    add_model_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what tells how a model is built and what it takes."""
    add = parser.add_argument
    own = f"that of the weights' preset; without one {SIZE}, or of init the first picture's"
    add("--size", type=int, help=f"side of its input in pixels (default: {own})")
    add("--channels", type=int, help="of its input (default: 3, or what its first convolution takes)")
    add("--arguments", default="{}", metavar="JSON", help="of its constructor or factory, as model.arguments")
    add("--task", default="auto", help="what its outputs mean, as model.task")


def main(args: argparse.Namespace) -> None:
    """Print the table, and the lines for the configuration."""
    network = opened(args.model, args.size, args.channels, arguments_of(args.arguments), args.task)
    print(table(network))


def arguments_of(text: str) -> dict[str, Any]:
    """Return the keyword arguments that a JSON text holds.

    Raises
    ------
    UserError
        If it is no JSON object.
    """
    from gigraph.errors import UserError

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"--arguments: {text!r} is no JSON object; write it such as '{{\"num_classes\": 10}}'")
    return found


def opened(
    source: str, size: int | None, channels: int | None, arguments: dict[str, Any], task: str = "auto"
) -> Network:
    """Return a traced model without its weights.

    Raises
    ------
    UserError
        If there is no such model, or it cannot be traced.
    """
    from typing import get_args

    from gigraph.errors import UserError, nearest
    from gigraph.model.models import load_model
    from gigraph.model.network import Network
    from gigraph.planning.config import Model

    tasks = get_args(Model.model_fields["task"].annotation)
    if task not in tasks:
        raise UserError(f"--task: there is no {task!r}{nearest(task, tasks)}; known: {', '.join(tasks)}")
    if any(number is not None and number < 1 for number in (size, channels)):
        raise UserError("--size and --channels are numbers of at least 1")
    side = size or preset_side(source) or SIZE
    model = load_model(source, arguments=arguments)
    return Network(model, (channels or channels_of(model, side), side, side), source, task)


def channels_of(model: Module, side: int) -> int:
    """Return the channels of a model's images: 3 if it takes these, else those of its first convolution."""
    import torch
    from torch.nn.modules.conv import _ConvNd

    from gigraph.model.tracing import takes

    first = next((one.in_channels for one in model.modules() if isinstance(one, _ConvNd)), 3)
    return 3 if first == 3 or takes(model, torch.zeros(1, 3, side, side)) else first


def preset_side(source: str) -> int | None:
    """Return the side of the images of a source's own weights; None where it has none."""
    from gigraph.model.models import preset_of
    from gigraph.worlds import registry as worlds

    if source in worlds.NAMES:
        from gigraph.planning.config import Drawn

        return Drawn().size
    own = "DEFAULT" if source.startswith("torchvision:") else None
    return (preset_of(source, own) or {}).get("crop")


def table(network: Network) -> str:
    """Return the cut points as text."""
    from gigraph.model.proposing import judged

    found = judged(network)
    wide = max([5, *(len(one.layer.name) for one in found)])
    channels, height, width = network.image_shape
    lines = [
        f"{network.name}: {channels} x {height} x {width} in, {network.outputs:,} outputs ({network.task}); "
        f"{len(found)} cut points",
        "",
        f"  {'layer':{wide}}  channels  positions",
    ]
    for one in found:
        lines.append(
            f"{'*' if one.good else ' '} {one.layer.name:{wide}}  {one.layer.channels:8,}  {shape(one):>9}  {one.why}"
        )
    good = [one.layer.name for one in found if one.good]
    lines += ["", "* good choices; in a configuration:", f"layers: [{', '.join(map(written, good))}]"]
    return "\n".join(lines)


def shape(one: Judged) -> str:
    """Return how a layer's positions lie: ``14 x 14``, ``14 x 14 + 1`` with a class token, or ``1``."""
    height, width, others = one.layer.grid
    if height * width == 1:
        return "1"
    return f"{height} x {width}{f' + {others}' if others else ''}"


def written(value: Any) -> str:
    """Return a value as YAML on one line; JSON is such, and plain words need no quotes."""
    import yaml

    try:
        plain = isinstance(value, str) and value.isprintable() and yaml.safe_load(f"a: {value}") == {"a": value}
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value)
