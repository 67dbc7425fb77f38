"""Picture one layer's kept families: their nearest PFVs cropped to the iERF; and say where they are in images.

The members of a family of several are pictured too, by fewer PFVs.
"""

import shutil
from argparse import Namespace
from pathlib import Path

from gigraph.exemplars import Coded, Pictured, Sample, exemplars, localisation, relevance_to_own_class
from gigraph.images.tiles import FACE, face_sheet, faces, sheet
from gigraph.method.families import Families
from gigraph.records import tables
from gigraph.records.families import read_families
from gigraph.reporting import log
from gigraph.running.runtime import run
from gigraph.subject import Subject


def main(args: Namespace) -> None:
    settings, name = args.settings, args.settings["layer"]
    subject = Subject(settings, args.compute, [name])
    sheets = Path(args.sheets)
    shutil.rmtree(sheets, ignore_errors=True)
    sheets.mkdir(parents=True)
    kept = tables.read(args.kept).to_pylist()
    concepts = sorted({row["concept"] for row in kept})
    families = read_families(args.families)
    vectors = tables.numpy(tables.read(args.concepts, ["vector"]), "vector")
    pictured = [Pictured("concepts", families.directions(vectors), concepts, settings["nearest"])]
    members = [one for family in concepts for one in families.members(family).tolist() if one != family]
    pictured.append(Pictured("members", vectors, members, min(FACE, settings["nearest"])))
    shown, pages = exemplars(
        subject,
        name,
        _sample(args),
        pictured,
        side=settings["tile"],
        method=subject.contribution(settings["contribution"]),
    )
    for file, page in pages.items():
        sheet(page, max(map(len, page)), settings["tile"]).save(sheets.parent / file, quality=85, method=4)
        faces(page).save(sheets.parent / face_sheet(file), quality=80, method=4)
    attributions = tables.read(args.attributions, ["image_id", "label", "target", "sources", "values"]).to_pylist()
    paths = {row["image_id"]: row["path"] for row in tables.read(args.selection, ["image_id", "path"]).to_pylist()}
    coded = _coded(args, families, subject.layers[name].positions)
    located = localisation(kept, relevance_to_own_class(attributions), coded, paths, settings["localised"])
    tables.write(args.exemplars, "exemplars", shown, args.lineage)
    tables.write(args.localisation, "localisation", located, args.lineage)
    log.info(
        "%d concepts, %d exemplars, %d localisations", len(concepts), len(shown["concept"]), len(located["concept"])
    )


def _sample(args: Namespace) -> Sample:
    table = tables.read(args.pfvs, ["image_id", "y", "x", "pfv"])
    ids, y, x, pfvs = (tables.numpy(table, column) for column in ("image_id", "y", "x", "pfv"))
    images = {row["image_id"]: row for row in tables.read(args.manifests).to_pylist()}
    return Sample(pfvs - tables.beta(args.centre), ids, y, x, images, Path(args.settings["images"]))


def _coded(args: Namespace, families: Families, positions: int) -> Coded:
    table = tables.read(args.coefficients)
    indptr, concepts = tables.csr(table, "concepts")
    there = families.collect(concepts, tables.csr(table, "values")[1])
    return Coded(tables.numpy(table, "image_id")[::positions], indptr, *there, positions)


if __name__ == "__main__":
    run(
        main, "selection", "manifests+", "centre", "concepts", "families", "kept", "pfvs+", "coefficients+",
        "attributions+", "exemplars", "localisation", "sheets",
    )  # fmt: skip
