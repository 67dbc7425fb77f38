"""Build the explorer: a static site of the graph that opens by double click."""

from argparse import Namespace
from pathlib import Path

from gigraph.explorer import Inputs, build
from gigraph.runtime import run


def main(args: Namespace) -> None:
    settings, root = args.settings, Path(args.root)
    method = settings["method"]
    graph, layers = root / method / "graph", settings["layers"]
    alignment = root / method / "evaluation" / "alignment.parquet"
    build(
        Inputs(
            images=root / "images.parquet",
            classes=root / "classes.parquet",
            layers=root / "layers.parquet",
            rejected=root / "rejected.parquet",
            nodes=graph / "nodes.parquet",
            edges=graph / "edges.parquet",
            kept=graph / "kept.parquet",
            concepts={layer: root / method / "concepts" / f"{layer}.parquet" for layer in layers},
            exemplars={layer: root / method / "exemplars" / layer for layer in layers},
            fidelity=root / method / "evaluation" / "fidelity.parquet",
            alignment=alignment if settings["drawn"] else None,
            method=method,
            title=settings["title"],
            labels=settings["labels"],
            top=settings["top"],
            shared=settings["shared"],
            nearest=settings["nearest"],
            tile=settings["tile"],
            lineage=args.lineage,
            notes=_notes(root / "logs"),
        ),
        Path(args.index).parent,
    )


def _notes(logs: Path) -> list[str]:
    """Return the notes that the run's scripts logged, in the order of their files."""
    found = []
    for path in sorted(logs.rglob("*.log")):
        found += [line.partition("note: ")[2].strip() for line in path.read_text().splitlines() if "note: " in line]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    run(main, "root", "index")
