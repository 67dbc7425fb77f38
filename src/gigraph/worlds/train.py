"""Train a drawn world's classifier: about a CPU minute on one thread.

A shipped checkpoint was made by ``OMP_NUM_THREADS=1 python -m gigraph.worlds.train --world <name> --out <file>``. The
result is the same bit for bit on one machine with one thread; other machines round differently, and their
model is as good.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from gigraph.version import __version__
from gigraph.worlds import dataset, facts, registry
from gigraph.worlds.canvas import SIDE
from gigraph.worlds.model import build, normalise, predict

log = logging.getLogger(__name__)

EPOCHS = 8
BATCH = 32
RATE = 0.015
DECAY = 0.02
SMOOTHING = 0.05
SHIFT = 3

Report = Callable[[int, int, float], None]


def train(
    images: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    rate: float = RATE,
    report: Report | None = None,
) -> nn.Module:
    """Train a model.

    AdamW with weight decay, one learning rate cycle, label smoothing; pictures are flipped and shifted by up
    to three pixels. It must run past 97%: only then has the shortcut taken the place of the cue.

    Parameters
    ----------
    images : array of uint8 [n, h, w, 3]
        The training pictures.
    labels : array of int64 [n]
        The model's output of each.
    outputs : int
        Of the model: the number of classes.
    seed : int
        Of the initial weights, the order and the augmentation. The global generator of torch is left alone.
    epochs, batch, rate : int, int, float
        Passes over the pictures, pictures per step, the peak of the learning rate.
    report : callable, optional
        Called with (epoch, epochs, mean loss) after each epoch.

    Returns
    -------
    ResNet
        In evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(outputs).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(seed)
    inputs = normalise(np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge"))
    targets = torch.from_numpy(labels)
    height, width = images.shape[1:3]
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            moves = torch.randint(0, 2 * SHIFT + 1, (batch, 2), generator=generator).tolist()
            flips = torch.rand(batch, generator=generator) < 0.5
            views = torch.stack(
                [inputs[i, :, y : y + height, x : x + width] for i, (y, x) in zip(chosen.tolist(), moves, strict=True)]
            )
            views[flips] = views[flips].flip(3)
            loss = criterion(model(views.contiguous(memory_format=torch.channels_last)), targets[chosen])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * batch
        if report is not None:
            report(epoch + 1, epochs, total / (len(images) // batch * batch))
    return model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; give 0 to 1")
    return value


def write_checkpoint(model: nn.Module, path: str | Path, metadata: dict[str, str]) -> None:
    """Write the weights as safetensors, under a temporary name first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    temporary.write_bytes(save(weights, metadata))
    temporary.replace(path)


def main(arguments: list[str] | None = None) -> None:
    """Draw, train, test, write."""
    parser = argparse.ArgumentParser(
        prog="python -m gigraph.worlds.train",
        description=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--world", required=True, choices=registry.NAMES, help="what is drawn and learned")
    parser.add_argument("--out", required=True, help="checkpoint to write (safetensors)")
    parser.add_argument("--train", type=int, default=4000, help="number of training pictures")
    parser.add_argument("--test", type=int, default=1000, help="number of test pictures")
    parser.add_argument("--size", type=int, default=SIDE, help="side of the pictures in pixels")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures and of the training")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw; training uses one thread")
    parser.add_argument("--shortcut", type=_share, help="share of the shortcut's class that has it; the world's own")
    parser.add_argument("--facts", type=int, default=1000, help="pictures to measure the causal facts on; 0 for none")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(1)

    world = registry.get(given.world)
    drawn = {"seed": given.seed, "size": given.size, "workers": given.workers, "rate": given.shortcut}
    start = time.perf_counter()
    images, labels = dataset.labelled(world, "train", given.train, **drawn)
    tests, truth = dataset.labelled(world, "test", given.test, **drawn)
    log.info("drew %d pictures in %.0f s", given.train + given.test, time.perf_counter() - start)
    start, cpu = time.perf_counter(), time.process_time()
    model = train(
        images,
        labels,
        len(world.classes),
        seed=given.seed,
        epochs=given.epochs,
        report=lambda epoch, epochs, loss: log.info("epoch %d of %d: loss %.3f", epoch, epochs, loss),
    )
    cpu = time.process_time() - cpu
    log.info("trained in %.0f s (%.0f CPU seconds)", time.perf_counter() - start, cpu)
    accuracy = float((predict(model, tests).argmax(1) == truth).mean())
    log.info("%s: test accuracy %.4f", world.title, accuracy)
    command = ["python", "-m", "gigraph.worlds.train", "--world", world.name, "--out", Path(given.out).name]
    command += ["--train", str(given.train), "--test", str(given.test), "--epochs", str(given.epochs)]
    command += ["--size", str(given.size), "--seed", str(given.seed)]
    command += [] if given.shortcut is None else ["--shortcut", str(given.shortcut)]
    notes = {
        "command": "OMP_NUM_THREADS=1 " + " ".join(command),
        "seed": str(given.seed),
        "classes": ",".join(world.classes),
        "test_accuracy": f"{accuracy:.4f}",
        "gigraph": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if given.facts:
        found = facts.causal_facts(world, model, given.facts, given.seed, size=given.size, workers=given.workers)
        for name, value in found.items():
            log.info("%-36s %.4f", name, value)
        notes["causal_facts"] = json.dumps({name: round(value, 4) for name, value in found.items()})
    write_checkpoint(model, given.out, notes)
    log.info("wrote %s", given.out)


if __name__ == "__main__":
    main()
