"""Small classifiers of eight architectures, trained for some seconds each on a folder of images: to judge methods on.

``python -m benchmarks.classifiers --images FOLDER --out FOLDER`` (in tests/), on CIFAR-10's 50,000 images with a GPU.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

SIDE = 96
"""Pixels that images are resized to."""


def vgg() -> nn.Module:
    """Return VGG-11 with fewer channels, and the mean of its last map in place of its hidden layers."""
    widths = [32, "M", 64, "M", 128, 128, "M", 256, 256, "M", 256, 256]
    network = models.VGG(models.vgg.make_layers(widths, batch_norm=True), num_classes=10)
    network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(256, 10)
    return network


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: models.DenseNet(16, (4, 6, 8, 6), 32, num_classes=10),
    "vgg": vgg,
    "mobilenetv3": lambda: timm.create_model("mobilenetv3_small_100", num_classes=10),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=10),
    "regnet": lambda: timm.create_model("regnety_002", num_classes=10),
    "swin": lambda: models.SwinTransformer(
        [4, 4], 40, [2, 2, 4, 2], [2, 4, 8, 16], [3, 3], stochastic_depth_prob=0.0, num_classes=10
    ),
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", patch_size=8, img_size=SIDE, num_classes=10),
    "maxvit": lambda: models.MaxVit((SIDE, SIDE), 32, 3, [32, 64, 128, 256], [1, 1, 2, 1], 32, 0.0, num_classes=10),
}


def pixels(paths: list[Path]) -> Tensor:
    """Return images as they lie on disk, uint8 [N, 3, H, W]."""
    from PIL import Image

    return torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])).permute(
        0, 3, 1, 2
    )


def prepared(images: Tensor) -> Tensor:
    """Return the networks' input."""
    x = F.interpolate(images.float() / 255, size=SIDE, mode="bilinear", align_corners=False)
    return (x - 0.5) / 0.25


def trained(network: nn.Module, images: Tensor, labels: Tensor, seconds: float) -> int:
    """Train a network for so long; return the number of steps."""
    device = images.device.type
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    network.train()
    began, steps = time.monotonic(), 0
    while (part := (time.monotonic() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1.0, part / 0.1) * 0.5 * (1 + math.cos(math.pi * part))
        some = torch.randint(len(images), (256,), device=images.device)
        x = F.pad(images[some].float(), (4,) * 4, mode="reflect")
        top, left = np.random.randint(0, 9, 2)
        x = x[:, :, top : top + images.shape[2], left : left + images.shape[3]]
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x)
        with torch.autocast(device, torch.bfloat16):
            loss = F.cross_entropy(network(prepared(x)).float(), labels[some], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
    settle_norms(network, images)
    return steps


@torch.no_grad()
def settle_norms(network: nn.Module, images: Tensor) -> None:
    """Let batch norms take the mean statistics of some images: so short a training leaves old ones."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for part in images[:1000].split(125):
        network(prepared(part))
    network.eval()


def main() -> None:
    """Train each on nine tenths of the images, and say what it gets right of the last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="a folder with one folder for each class")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=33)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="*", default=list(CLASSIFIERS), choices=list(CLASSIFIERS))
    given = parser.parse_args()
    paths = sorted(given.images.glob("*/*"))
    classes = sorted({path.parent.name for path in paths})
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))
    images = pixels(paths)[order].to(given.device)
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])[order].to(given.device)
    held = len(paths) // 10
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        torch.manual_seed(0)
        network = CLASSIFIERS[name]().to(given.device)
        steps = trained(network, images[held:], labels[held:], given.seconds)
        with torch.no_grad():
            found = torch.cat([network(prepared(part)).argmax(1) for part in images[:held].split(500)])
        torch.save(
            {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()},
            given.out / f"{name}.pth",
        )
        print(f"{name}: {steps} steps, {float((found == labels[:held]).float().mean()):.1%} right", flush=True)


if __name__ == "__main__":
    main()
