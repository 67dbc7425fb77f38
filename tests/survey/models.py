"""Tries gigraph on every family of timm's models and every classifier of torchvision, with random weights.

``python -m survey.models OUT.jsonl [MODEL ...]`` (in tests/) writes a line for each; `survey.report` makes
docs/models.md of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from gigraph.errors import UserError
from gigraph.model.network import Network

TESTS = Path(__file__).parents[1]
LIMIT = 600
"""Seconds that one model may take."""
ARGUMENTS = {f"timm:{name}": {"depth": 2} for name in ("deepseek_vit_412m", "gemma4_vit_167m", "qwen3_vit_88m")}
"""Of models that are large and deep: two blocks of them are tried."""
SMALL = [
    "test", "atto", "femto", "pico", "nano", "xxs", "xx_small", "tiny", "_t", "mini", "xxt", "xs", "x_small", "_s",
    "small", "s0", "_0", "b0", "m0", "000", "002", "004", "lite", "050", "035", "18", "26", "32", "_b", "base",
    "50",
]  # fmt: skip


def timm_models() -> list[str]:
    """Return one model of each of timm's modules, a small one by its name."""
    import timm

    found = []
    for module in timm.list_modules():
        names = timm.list_models(module=module, exclude_filters=["test_*", "*_in21k"])
        names = [name for name in names if timm.models.model_entrypoint(name).__module__.endswith("." + module)]
        if names:
            place = {
                name: min((i for i, part in enumerate(SMALL) if part in f"_{name}"), default=len(SMALL))
                for name in names
            }
            found.append(min(names, key=lambda name: (place[name], len(name), name)))
    return [f"timm:{name}" for name in found]


def torchvision_models() -> list[str]:
    """Return every classifier of torchvision."""
    from torchvision import models

    return [f"torchvision:{name}" for name in models.list_models(module=models)]


def try_one(source: str) -> dict[str, object]:
    """Trace a model, take two layers, carry relevance back, and attribute the logits to a few concepts.

    Returns
    -------
    dict
        ``method``: how relevance is found, or None where the model is refused; ``reason`` of a refusal or of gradients;
        ``layers``; ``error`` where anything but a refusal ended it.
    """
    import torch

    from gigraph.method.gig import Decomposition, attribute, class_score
    from gigraph.model.contribution import contributions, method_for, receptive_fields

    found: dict[str, object] = {"model": source, "method": None, "reason": "", "layers": [], "error": ""}
    torch.manual_seed(0)
    torch.set_num_threads(1)
    try:
        network, size = traced(source)
        names = proposed(network)
        layers = [network.layer(name) for name in names]
        network = network.folded(layers)
        layers = [network.layer(name) for name in names]
        found["layers"] = names
        x = torch.randn(1, *size)
        method = method_for(network, layers, x, "auto")
        if method != "srd":
            try:
                method_for(network, layers, x, "srd")
            except UserError as error:
                found["reason"] = str(error)
        maps, pfvs, _, _ = contributions(network, layers, x, method)
        positions = {layer.name: int(maps[layer.name][0].argmax()) for layer in layers}
        for layer in layers:
            receptive_fields(network, layer, x, torch.tensor([[positions[layer.name]]]), method)
            real = pfvs[layer.name].detach()
            start = real[0].mean(0)
            vectors = real[0, :4] - start
            weights = torch.linalg.lstsq(vectors.T, (real[0] - start).T, driver="gelsd").solution.T.contiguous()
            image = Decomposition(torch.arange(len(vectors)), weights)
            segment = network.pfv_segment(layer, None)
            attribute(segment, class_score("logit"), vectors, start, [image], torch.tensor([[0]]), steps=2, max_steps=2)
        found["method"] = method
    except UserError as error:
        found["reason"] = str(error)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
    return found


def traced(source: str) -> tuple[Network, tuple[int, int, int]]:
    """Return the traced model, for small images where it takes them, and its input's shape."""
    from gigraph.model.models import load_model

    model = load_model(source, weights=None, arguments=ARGUMENTS.get(source, {}))
    own = input_size(source, model)
    try:
        return Network(model, (own[0], 96, 96), source), (own[0], 96, 96)
    except UserError:
        return Network(load_model(source, weights=None, arguments=ARGUMENTS.get(source, {})), own, source), own


def input_size(source: str, model: object) -> tuple[int, int, int]:
    """Return the model's own input, or 224 x 224 pixels."""
    own = getattr(model, "default_cfg", None) or getattr(model, "pretrained_cfg", None) or {}
    if source.endswith("inception_v3"):
        return 3, 299, 299
    return tuple(own.get("input_size", (3, 224, 224)))


def proposed(network: Network) -> list[str]:
    """Return two layers, a middle and a late one, of more than one position."""
    cuts = [cut for cut in network.cut_points() if len(cut.shape) > 1 and network.layer(cut.name).positions > 1]
    cuts = [cut for cut in cuts if cut.modules] or cuts
    if not cuts:
        raise UserError("no operation but the last ones is one that every path to the output passes: there is no layer")
    found = []
    for share in (0.5, 0.9):
        here = round(share * (len(cuts) - 1))
        nearest = sorted(range(len(cuts)), key=lambda i, here=here: abs(i - here))
        found.append(next((cuts[i].name for i in nearest[:8] if _followed(network, cuts[i].name)), cuts[here].name))
    return list(dict.fromkeys(found))


def _followed(network: Network, name: str) -> bool:
    """Return whether a layer's axes are what the network takes them for; true where relevance cannot pass at all."""
    import torch

    from gigraph.model.contribution import method_for

    try:
        return bool(method_for(network, [network.layer(name)], torch.zeros(1, *network.image_shape), "auto"))
    except UserError:
        return False


def main() -> None:
    """Try each model in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--one", action="store_true", help="this model, here")
    given = parser.parse_args()
    if given.one:
        resource.setrlimit(resource.RLIMIT_AS, (20 * 2**30, 20 * 2**30))
        print(json.dumps(try_one(*given.models)))
        return
    done = {json.loads(line)["model"] for line in given.out.read_text().splitlines()} if given.out.exists() else set()
    for source in given.models or [*timm_models(), *torchvision_models()]:
        if source in done:
            continue
        began = time.monotonic()
        command = [sys.executable, "-m", "survey.models", str(given.out), source, "--one"]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=TESTS)
            lines = ran.stdout.strip().splitlines()
            row = (
                json.loads(lines[-1])
                if ran.returncode == 0 and lines
                else {"model": source, "error": ran.stderr[-300:]}
            )
        except subprocess.TimeoutExpired:
            row = {"model": source, "error": f"took more than {LIMIT} s"}
        row["seconds"] = round(time.monotonic() - began, 1)
        with given.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
