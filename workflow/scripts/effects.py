"""Measure on a drawn world what each part does for each class: redraw the same scenes without it."""

from argparse import Namespace

from gigraph.model.models import load_model
from gigraph.records import tables
from gigraph.reporting import log
from gigraph.running.runtime import run
from gigraph.worlds import registry
from gigraph.worlds.facts import redraw_effects


def main(args: Namespace) -> None:
    settings = args.settings
    world = registry.get(settings["world"])
    model = settings["model"]
    module = load_model(model["source"], **{key: model[key] for key in ("weights", "arguments", "shuffled")})
    found = redraw_effects(world, module, settings["scenes"], settings["seed"], size=settings["size"])
    columns = {"class": [one.name for one in found]}
    columns |= {key: [getattr(one, key) for one in found] for key in ("part", "count", "probability", "logit")}
    tables.write(args.effects, "effects", columns, args.lineage)
    for one in sorted(found, key=lambda one: -one.probability)[:5]:
        log.info("%s: without its %s the probability falls by %.2f", one.name, one.part, one.probability)


if __name__ == "__main__":
    run(main, "effects")
