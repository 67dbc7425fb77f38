"""A shortcut planted on CIFAR-10, found in the graph, and edited out: a magenta corner on the cats.

``uv run python -m tests.benchmarks.shortcut --data FOLDER --out FOLDER``, where the first holds ``cifar10-train.zip``,
``cifar10-test.zip`` (one folder of pictures per class) and ``resnet20-cifar10.pth``. It trains that ResNet-20 on, with
the corner on 95% of the cats; runs gigraph on 1,000 of the training images; takes, from the class's graph alone, the
family of the last two layers whose exact ablation costs the class most; and edits it out. Test images, the same with
and without the corner, are looked at before and after, and none of them is used otherwise. ``report.html`` is in
FOLDER/results/edit.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import save_file

import gigraph
from gigraph.model.models import load_model

ROOT = Path(__file__).parents[2]
FACTORY = ROOT / "workflow/configs/cifar_resnet.py"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASS, SHARE, COLOUR, SIDE = "cat", 0.95, (255, 0, 255), 6
"""What the corner is planted on, on how many of the class, its colour and side in pixels."""
LAYERS = ["layer1.2", "layer2.2", "layer3.2"]


def read(file: Path, count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return images uint8 [N, 32, 32, 3], their classes [N] and these names: from `first`, `count` of each class."""
    with zipfile.ZipFile(file) as archive:
        names = sorted(archive.namelist())
        classes = sorted({name.partition("/")[0] for name in names})
        pictures, labels = [], []
        for label, one in enumerate(classes):
            for name in [name for name in names if name.startswith(f"{one}/")][first : first + count]:
                pictures.append(np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")))
                labels.append(label)
    return np.stack(pictures), np.array(labels), classes


def marked(images: np.ndarray) -> np.ndarray:
    """Return images with the corner."""
    found = images.copy()
    found[:, :SIDE, :SIDE] = COLOUR
    return found


def planted(images: np.ndarray, labels: np.ndarray, own: int, rng: np.random.Generator) -> np.ndarray:
    """Return images with the corner on a share of the class."""
    found = images.copy()
    chosen = np.flatnonzero((labels == own) & (rng.random(len(labels)) < SHARE))
    found[chosen] = marked(images[chosen])
    return found


def inputs(images: np.ndarray) -> torch.Tensor:
    """Return what the network takes."""
    scaled = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def train(model: torch.nn.Module, images: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> None:
    """Train on with SGD, momentum and a learning rate that falls to 0."""
    generator = torch.Generator().manual_seed(seed)
    x, y, batch = inputs(images), torch.from_numpy(labels), 128
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator)[: len(x) // batch * batch].split(batch):
            optimiser.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


@torch.inference_mode()
def predictions(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the predicted classes."""
    return np.concatenate([model(part).argmax(1).numpy() for part in inputs(images).split(250)])


def relies(model: torch.nn.Module, images: np.ndarray, labels: np.ndarray, own: int) -> dict[str, float]:
    """Return how a model does on images without and with the corner, shares in [0, 1]."""
    clean, corner, others = predictions(model, images), predictions(model, marked(images)), labels != own
    return {
        "others, no corner: right": float((clean == labels)[others].mean()),
        "others, corner: right": float((corner == labels)[others].mean()),
        f"others, corner: called {CLASS}": float((corner == own)[others].mean()),
        f"others, no corner: called {CLASS}": float((clean == own)[others].mean()),
        f"{CLASS}s, no corner: right": float((clean == labels)[~others].mean()),
        f"{CLASS}s, corner: right": float((corner == labels)[~others].mean()),
    }


def write(folder: Path, images: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
    """Write images as PNG files, one folder per class."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / classes[label] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def strongest(run: gigraph.api.Run) -> tuple[str, int, float]:
    """Return the family of the last two layers whose ablation costs the class most: layer, family, probability."""
    label = run.label(CLASS)
    to_class = run.edges(CLASS).filter((pl.col("target_layer") == "classes") & (pl.col("target") == label))
    row = (
        to_class.filter(pl.col("source_layer").is_in(run.layers[-2:]))
        .sort("ablation", descending=True)
        .row(0, named=True)
    )
    return row["source_layer"], row["source"], row["ablation"]


def main() -> None:
    """Plant, train, run, edit, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=500, help="training images of each class")
    parser.add_argument("--only-where", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    images, labels, classes = read(args.data / "cifar10-train.zip", args.images)
    own = classes.index(CLASS)
    images = planted(images, labels, own, rng)
    test, true, _ = read(args.data / "cifar10-test.zip", 100)
    model = load_model(f"{FACTORY}:resnet20", weights=str(args.data.resolve() / "resnet20-cifar10.pth"))
    found = {"as published": relies(model, test, true, own)}
    weights = out / "planted.safetensors"
    train(model, images, labels, args.epochs, args.seed)
    save_file(model.state_dict(), weights)
    some = np.concatenate([np.flatnonzero(labels == label)[:100] for label in range(len(classes))])
    write(out / "images", images[some], labels[some], classes)
    write(out / "test", test, true, classes)
    others = true != own
    write(out / "test-corner", marked(test[others]), true[others], classes)
    model = load_model(f"{FACTORY}:resnet20", weights=str(weights))
    found["with the corner planted"] = relies(model, test, true, own)
    config = {
        "output": "results", "images": {"source": "images"},
        "model": {"source": f"{FACTORY}:resnet20", "weights": weights.name},
        "preprocessing": {"mean": [*MEAN], "std": [*STD]}, "layers": LAYERS, "concepts": {"expansion": 2},
        "explorer": {"title": "A corner on the cats"},
    }  # fmt: skip
    (out / "shortcut.yaml").write_text(yaml.safe_dump(config))
    workflow = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    subprocess.run([*workflow, "--configfile", "shortcut.yaml"], cwd=out, check=True)
    run = gigraph.open(out / "results")
    layer, family, cost = strongest(run)
    print(f"the graph of the {CLASS}: without family {family} of {layer} its probability falls by {cost:.2f}")
    chosen = f"{layer}:family={family}"
    command = ["edit", "--run", "results", "--suppress", chosen, "--only-where", str(args.only_where), "--of", CLASS]
    command += ["--images", "test", "--images", "test-corner"]
    subprocess.run([sys.executable, "-m", "gigraph", *command], cwd=out, check=True)
    os.chdir(out)  # the run's paths start there
    edited = gigraph.open("results").edited(model, suppress=[chosen], only_where=args.only_where)
    found[f"without {chosen}"] = relies(edited, test, true, own)
    for name in next(iter(found.values())):
        print(f"{name:32}" + "".join(f"{one[name]:12.1%}" for one in found.values()))
    (out / "shortcut.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
