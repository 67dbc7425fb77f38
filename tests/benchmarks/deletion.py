"""Which contributions of positions say what deleting one does: a judge of `contribution.method`.

Of each image, every position of a layer (at most 64, drawn at random) is deleted in turn, by zeros or by the mean of
the image's positions, and the predicted class's logit computed anew, exactly. The table has Spearman's rank correlation
of the logit's fall with each method's contributions, for zeros and for the mean: its mean over images, and the standard
error.

``python -m benchmarks.deletion --weights FOLDER --images FOLDER --photographs FOLDER --checkpoint FILE`` (in tests/):
the classifiers of `benchmarks.classifiers`, CIFAR-10's test images, photographs for the ImageNet network, and CIFAR's
ResNet-20.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.classifiers import CLASSIFIERS, pixels, prepared
from gigraph.errors import UserError
from gigraph.images.preprocessing import Preprocessing
from gigraph.model.contribution import contributions, method_for
from gigraph.model.network import Layer, Network

METHODS = ("srd", "lrp", "grad_x_input", "random")
CONFIGS = Path(__file__).parents[2] / "workflow/configs"


def factory(name: str):
    """Return a module of the example configurations."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def subjects(given: argparse.Namespace) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield each network's name, the network and its input."""
    folders = [sorted(folder.iterdir()) for folder in sorted(given.images.iterdir())]
    paths = [folder[i] for i in range(len(folders[0])) for folder in folders][: given.count]
    small = pixels(paths)
    if given.checkpoint:
        network = factory("cifar_resnet").resnet20()
        state = torch.load(given.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
        mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        yield "resnet", network, (small / 255 - mean) / std
    if given.photographs:
        from PIL import Image

        photographs = sorted(given.photographs.glob("*/*"))
        some = [photographs[i] for i in np.linspace(0, len(photographs) - 1, given.count).astype(int)]
        way = Preprocessing.from_preset(
            None, resize=256, crop=224, mean=[0.498] * 3, std=[0.502] * 3, interpolation="bicubic"
        )
        shown = [way.display(Image.open(path).convert("RGB")) for path in some]
        yield "efficientnet-lite", factory("efficientnet_lite0").model(), way.stack(shown)
    for name in given.only:
        network = CLASSIFIERS[name]()
        network.load_state_dict(torch.load(given.weights / f"{name}.pth", map_location="cpu", weights_only=True))
        yield name, network.float(), prepared(small)


def layers_of(network: Network, x: Tensor) -> list[str]:
    """Return an early, a middle and a late layer of at least four positions."""
    cuts = [cut.name for cut in network.cut_points() if cut.modules and len(cut.shape) > 1]
    cuts = [name for name in cuts if network.layer(name).positions >= 4 and _followed(network, name, x)]
    return list(dict.fromkeys(cuts[round(share * (len(cuts) - 1))] for share in (0.3, 0.6, 0.9)))


def _followed(network: Network, name: str, x: Tensor) -> bool:
    try:
        return bool(method_for(network, [network.layer(name)], x, "srd"))
    except UserError:
        return False


def falls(
    network: Network, layer: Layer, pfvs: Tensor, label: int, positions: np.ndarray, filled: Tensor
) -> np.ndarray:
    """Return by how much the logit falls with each position's PFV [P, C] replaced."""
    forward = network.pfv_segment(layer, None)
    many = pfvs.repeat(len(positions), 1, 1)
    many[range(len(positions)), positions] = filled
    with torch.no_grad():
        return (forward(pfvs[None])[0, label] - torch.cat([forward(part)[:, label] for part in many.split(16)])).numpy()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CLASSIFIERS), choices=list(CLASSIFIERS))
    parser.add_argument("--count", type=int, default=20, help="images")
    given = parser.parse_args()
    print("| network | layer | positions | " + " | ".join(METHODS) + " |\n|---|---|---|" + "---|" * len(METHODS))
    for name, model, x in subjects(given):
        traced = Network(model.eval(), tuple(x.shape[1:]), name)
        names = layers_of(traced, x[:1])
        network = traced.folded([traced.layer(layer) for layer in names])
        layers = [network.layer(layer) for layer in names]
        maps = {}
        for method in METHODS[:-1]:
            maps[method], pfvs, logits, _ = contributions(network, layers, x, method)
        chance = np.random.default_rng(0)
        for layer in layers:
            count = layer.positions
            maps["random"] = {layer.name: torch.from_numpy(chance.random((len(x), count)))}
            found: dict[str, list[list[float]]] = {method: [[], []] for method in METHODS}
            for i, one in enumerate(pfvs[layer.name].detach()):
                some = np.arange(count) if count <= 64 else chance.permutation(count)[:64]
                for kind, filled in enumerate((torch.zeros_like(one[0]), one.mean(0))):
                    fall = falls(network, layer, one, int(logits[i].argmax()), some, filled)
                    for method in METHODS:
                        given_by = maps[method][layer.name][i].detach().numpy()[some]
                        # Where a method says the same of all positions it says nothing.
                        rank = spearmanr(given_by, fall).statistic if np.ptp(given_by) and np.ptp(fall) else 0.0
                        found[method][kind].append(rank)
            cells = " | ".join(
                ", ".join(f"{np.mean(r):.2f}+-{np.std(r) / len(r) ** 0.5:.2f}" for r in found[m]) for m in METHODS
            )
            print(f"| {name} | {layer.name} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
