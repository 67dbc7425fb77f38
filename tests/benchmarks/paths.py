"""GIG beside Captum's layer integrated gradients, and the SRD sweep beside a forward pass, on a ResNet-50."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gigraph.method.gig import Attribution, Decomposition, attribute, class_score, concept_score
from gigraph.model.contribution import contributions
from gigraph.model.models import load_model
from gigraph.model.network import Layer, Network
from gigraph.reserved import CLASSES

from .measure import Machine, Row, timed

PAIRS = [("layer3.2", "layer3.5"), ("layer4.1", CLASSES), ("layer4.2", CLASSES)]
STEPS = 16


def network() -> Network:
    """Return a traced ResNet-50 with random weights, as every job of the workflow draws them."""
    return Network(load_model("torchvision:resnet50", weights=None, arguments={}))


class Scores(nn.Module):
    """F_ab from a layer of its own on, for Captum: maps [N, C, H, W] to the scores of T targets [N, T]."""

    def __init__(self, segment: nn.Module, target: object, unit: Tensor | None):
        super().__init__()
        self.layer, self.segment, self.target, self.unit = nn.Identity(), segment, target, unit

    def forward(self, maps: Tensor) -> Tensor:
        """Run."""
        out = self.segment(self.layer(maps))
        return out if self.unit is None else self.target.to_pfvs(out).sum(1) @ self.unit.T


def attributions(machine: Machine, traced: Network, repeats: int, targets: int = 8) -> list[Row]:
    """One image, T targets, 16 midpoint steps; both batch their steps."""
    from captum.attr import LayerIntegratedGradients

    folded_of = {
        name: traced.folded([traced.layer(name)] + ([traced.layer(to)] if to != CLASSES else [])) for name, to in PAIRS
    }
    rows = []
    for source, target in PAIRS:
        a, folded = traced.layer(source), folded_of[source]
        b = None if target == CLASSES else traced.layer(target)
        torch.manual_seed(0)
        with torch.no_grad():
            real = a.to_pfvs(traced.activations(torch.randn(1, *traced.image_shape), [a])[source])[0]
        start = real.mean(0)
        vectors = real[torch.randperm(a.positions)[:32]] - start
        u = torch.linalg.lstsq(vectors.T, (real - start).T, driver="gelsd").solution.T.contiguous()
        image = Decomposition(torch.arange(len(vectors)), u)
        towards = torch.randn(targets, b.channels) if b else None
        score = concept_score(towards) if b is not None else class_score("logit")
        to = torch.arange(targets)[None]
        unit = None if towards is None else nn.functional.normalize(towards, dim=1)
        segment = folded.pfv_segment(a, b)
        case = f"{source} -> {target}, T={targets} S={STEPS}"

        def ours(precision: str, score=score, vectors=vectors, start=start, image=image, to=to, segment=segment):
            return attribute(
                segment, score, vectors, start, [image], to,
                steps=STEPS, max_steps=STEPS, batch=STEPS, precision=precision,
            )[0]  # fmt: skip

        with FlopCounterMode(display=False) as counted:
            segment(real[None])
        # A forward pass, and for each target a pass back through the same products.
        least = STEPS * (1 + targets) * counted.get_total_flops() / machine.flops
        model = Scores(traced.segment(a, b or CLASSES), b, unit).eval()
        peer = LayerIntegratedGradients(model, model.layer)
        ends = (start + image.offset(vectors))[None], start.expand_as(real)[None]
        end, base = (a.from_pfvs(one).contiguous() for one in ends)  # maps as Captum's users have them

        def captum(peer=peer, end=end, base=base) -> list[Tensor]:
            return [peer.attribute(end, base, target=t, n_steps=STEPS, method="riemann_middle") for t in range(targets)]

        for name, precision in (("gigraph", "float32"), ("gigraph bfloat16", "bfloat16")):
            times = repeats if precision == "float32" else 1  # minutes where the processor lacks the instructions
            found, seconds, peak = timed(lambda ours=ours, precision=precision: ours(precision), times)
            share = least / seconds if precision == "float32" else None
            rows.append(Row("gig", case, name, seconds / targets, "image x target", times, peak, _error(found), share))
        _, seconds, peak = timed(captum, repeats)
        theirs = Attribution(image.concepts, _projected(peer, a, end, base, image, vectors, targets), found.at_concepts,
                             found.at_baseline, found.steps)  # fmt: skip
        rows.append(Row("gig", case, "captum", seconds / targets, "image x target", repeats, peak, _error(theirs)))
    return rows


def _error(found: Attribution) -> float:
    return float((found.completeness_error.abs() / found.total_absolute).max())


def _projected(
    peer, a: Layer, end: Tensor, base: Tensor, image: Decomposition, vectors: Tensor, targets: int
) -> Tensor:
    """Return Captum's mean gradients in terms of the concepts [T, Q]: its result without the factor x - baseline."""
    peer = type(peer)(peer.forward_func, peer.layer, multiply_by_inputs=False)
    mean = [peer.attribute(end, base, target=t, n_steps=STEPS, method="riemann_middle") for t in range(targets)]
    return image.gather(a.to_pfvs(torch.cat(mean).detach()), vectors)


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
    least = 2 * counted.get_total_flops() / machine.flops
    _, alone, low = timed(plain, repeats)
    return [
        Row("srd sweep", case, "gigraph", seconds / images, "image", repeats, peak, None, least / seconds),
        Row("srd sweep", case, "one forward pass", alone / images, "image", repeats, low),
    ]
