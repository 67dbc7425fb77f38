"""GIG beside Captum's layer integrated gradients, on a ResNet-50 and the demo; the SRD sweep beside a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gigraph.method.gig import Attribution, Decomposition, attribute, class_score, concept_score
from gigraph.method.lasso import calibrate, lasso
from gigraph.model.contribution import contributions
from gigraph.model.models import load_model
from gigraph.model.network import Layer, Network
from gigraph.reserved import CLASSES

from .demo import NONZEROS, Demo
from .measure import Contender, Machine, Row, contest, timed

PAIRS = [("layer3.2", "layer3.5"), ("layer4.1", CLASSES), ("layer4.2", CLASSES)]
DEMO_PAIRS = [("layer2.1", "layer3.1"), ("layer3.1", CLASSES)]
DEMO_IMAGES = 4
STEPS = 16
TARGETS = (2, 8)


def network() -> Network:
    """Return a traced ResNet-50 with random weights, as every job of the workflow draws them."""
    return Network(load_model("torchvision:resnet50", weights=None, arguments={}))


@dataclass(frozen=True)
class Case:
    """Images [N] of a layer's PFVs as concepts, and what they are attributed for.

    ``towards`` [T, C] are the target layer's concept vectors; None of the classes, whose ``output`` it then is.
    """

    name: str
    network: Network
    source: str
    target: str
    start: Tensor
    vectors: Tensor
    images: list[Decomposition]
    towards: Tensor | None
    output: str = "logit"


def large(traced: Network) -> Iterator[Case]:
    """Yield one image of the ResNet-50, its PFVs in terms of 32 of them."""
    for source, target in PAIRS:
        a = traced.layer(source)
        torch.manual_seed(0)
        with torch.no_grad():
            real = a.to_pfvs(traced.activations(torch.randn(1, *traced.image_shape), [a])[source])[0]
        start = real.mean(0)
        vectors = real[torch.randperm(a.positions)[:32]] - start
        u = torch.linalg.lstsq(vectors.T, (real - start).T, driver="gelsd").solution.T.contiguous()
        images = [Decomposition(torch.arange(len(vectors)), u)]
        towards = None if target == CLASSES else torch.randn(max(TARGETS), traced.layer(target).channels)
        yield Case("ResNet-50 ", traced, source, target, start, vectors, images, towards)


def small(demo: Demo) -> Iterator[Case]:
    """Yield images of the demo, decomposed as there, with as many concepts as channels and with eight times those."""
    for source, target in DEMO_PAIRS:
        x = demo.whole[source][:DEMO_IMAGES]
        images, positions, channels = x.shape
        for expansion in (1, 8):
            v = demo.concepts(source, expansion * channels)
            lam = calibrate(demo.drawn[source][::4], v, NONZEROS).lam
            codes = lasso(x.reshape(-1, channels), v, lam)
            found = []
            for image in range(images):
                pointer = codes.indptr[image * positions : (image + 1) * positions + 1]
                inside = slice(pointer[0], pointer[-1])
                parts = pointer - pointer[0], codes.indices[inside], codes.values[inside]
                found.append(Decomposition.from_csr(*map(torch.from_numpy, parts)))
            towards = None
            if target != CLASSES:
                own = demo.concepts(target, expansion * demo.drawn[target].shape[1])
                towards = torch.from_numpy(own[: max(TARGETS)])
            start, vectors = torch.from_numpy(demo.beta[source]), torch.from_numpy(v)
            yield Case(f"demo K={len(v)} ", demo.network, source, target, start, vectors, found, towards, "probability")


class Scores(nn.Module):
    """F_ab from a layer of its own on, for Captum: maps [N, C, H, W] to the scores of T targets [N, T]."""

    def __init__(self, segment: nn.Module, target: object, unit: Tensor | None, output: str):
        super().__init__()
        self.layer, self.segment, self.target, self.unit, self.output = nn.Identity(), segment, target, unit, output

    def forward(self, maps: Tensor) -> Tensor:
        """Run."""
        out = self.segment(self.layer(maps))
        if self.unit is not None:
            return self.target.to_pfvs(out).sum(1) @ self.unit.T
        return out.softmax(1) if self.output == "probability" else out


def attributions(machine: Machine, cases: Iterator[Case], repeats: int) -> list[Row]:
    """Compare at 16 midpoints of each path; both batch the points of all images."""
    from captum.attr import LayerIntegratedGradients

    rows = []
    for one in cases:
        a = one.network.layer(one.source)
        b = None if one.target == CLASSES else one.network.layer(one.target)
        segment = one.network.folded([a] + [b] * (b is not None)).pfv_segment(a, b)
        unit = None if one.towards is None else nn.functional.normalize(one.towards, dim=1)
        model = Scores(one.network.segment(a, b or CLASSES), b, unit, one.output).eval()
        peer = LayerIntegratedGradients(model, model.layer)
        ends = torch.stack([one.start + image.offset(one.vectors) for image in one.images])
        with FlopCounterMode(display=False) as counted:
            segment(ends)
        # Maps, as Captum's users have them.
        end, base = (a.from_pfvs(pfvs).contiguous() for pfvs in (ends, one.start.expand_as(ends)))
        for targets in TARGETS:
            case = f"{one.name}{one.source} -> {one.target}, T={targets} S={STEPS}"
            score = class_score(one.output) if one.towards is None else concept_score(one.towards[:targets])
            to = torch.arange(targets).repeat(len(one.images), 1)

            def ours(precision: str, one=one, score=score, to=to, segment=segment) -> list[Attribution]:
                return attribute(
                    segment, score, one.vectors, one.start, one.images, to,
                    steps=STEPS, max_steps=STEPS, batch=STEPS * len(one.images), precision=precision,
                )  # fmt: skip

            def captum(peer=peer, end=end, base=base, targets=targets) -> list[Tensor]:
                how = {"n_steps": STEPS, "method": "riemann_middle"}
                return [peer.attribute(end, base, target=t, **how) for t in range(targets)]

            items = targets * len(one.images)
            contenders = {"gigraph": Contender(partial(ours, "float32"), items, repeats)}
            if targets == max(TARGETS) and one.output == "logit":
                # Minutes where the processor lacks the instructions.
                contenders["gigraph bfloat16"] = Contender(partial(ours, "bfloat16"), items, 1)
            contenders["captum"] = Contender(captum, items, repeats)
            outcomes = contest(contenders)
            # A forward pass, and for each target a pass back through the same products.
            least = STEPS * (1 + targets) * counted.get_total_flops() / machine.convolutions / items
            for method, outcome in outcomes.items():
                found = outcome.result
                if method == "captum":
                    integrated = _projected(peer, a, end, base, one, targets)
                    found = [
                        Attribution(mine.concepts, values, mine.at_concepts, mine.at_baseline, mine.steps)
                        for mine, values in zip(outcomes["gigraph"].result, integrated, strict=True)
                    ]
                share = least / outcome.seconds if method == "gigraph" else None
                rows.append(
                    Row(
                        "gig", case, method, outcome.seconds, "image x target", outcome.repeats, outcome.peak,
                        max(map(_error, found)), share, outcome.ratio,
                    )
                )  # fmt: skip
    return rows


def _error(found: Attribution) -> float:
    return float((found.completeness_error.abs() / found.total_absolute).max())


def _projected(peer, a: Layer, end: Tensor, base: Tensor, one: Case, targets: int) -> list[Tensor]:
    """Return Captum's mean gradients in terms of each image's concepts [T, Q]: without the factor x - baseline."""
    peer = type(peer)(peer.forward_func, peer.layer, multiply_by_inputs=False)
    how = {"n_steps": STEPS, "method": "riemann_middle"}
    mean = [a.to_pfvs(peer.attribute(end, base, target=t, **how).detach()) for t in range(targets)]
    return [
        image.gather(torch.stack([of[index] for of in mean]), one.vectors) for index, image in enumerate(one.images)
    ]


def sweeps(machine: Machine, traced: Network, repeats: int, images: int = 2) -> list[Row]:
    """Compare the sampling sweep (one pass forwards, one backwards, all layers) with a bare forward pass."""
    layers = [traced.layer(f"layer{stage}.{blocks - 1}") for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3))]
    folded = traced.folded(layers)
    torch.manual_seed(0)
    x = torch.randn(images, *traced.image_shape).contiguous(memory_format=torch.channels_last)  # as `Subject` has them
    case = f"{images} images of 224"

    def plain() -> Tensor:
        with torch.inference_mode():
            return traced.graph_module(x)

    with FlopCounterMode(display=False) as counted:
        plain()
    _, seconds, peak = timed(lambda: contributions(folded, layers, x), repeats)
    least = 2 * counted.get_total_flops() / machine.convolutions
    _, alone, low = timed(plain, repeats)
    return [
        Row("srd sweep", case, "gigraph", seconds / images, "image", repeats, peak, None, least / seconds),
        Row("srd sweep", case, "one forward pass", alone / images, "image", repeats, low),
    ]
