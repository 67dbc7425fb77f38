"""A finished run in Python: polars frames of its graph, for notebooks.

>>> import gigraph
>>> run = gigraph.open("results")
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from gigraph.errors import UserError, nearest
from gigraph.images.naming import find_class
from gigraph.method.circuit import graph_scores
from gigraph.records import tables
from gigraph.records.paths import FILES, Results
from gigraph.reserved import CLASSES, DATASET, ERROR_NODE, REMAINDER

if TYPE_CHECKING:
    import networkx
    from torch import nn

    from gigraph.image_circuit import ImageCircuit


Planned = Callable[[Path], str | None]
"""From a table's path to its planned lineage; None if it is not planned."""


class Run:
    """A results folder.

    Parameters
    ----------
    folder : path
        The configuration's `output`.
    method : str, optional
        The concept extractor; the only one, or the first by name, if not given.
    configfile : path or sequence of paths, optional
        As given to snakemake: every table must be what this configuration plans. Without it, what the last run in the
        folder planned.

    Raises
    ------
    UserError
        If there is no finished graph. Every table that is read is refused if it is made from something else.
    """

    def __init__(
        self, folder: str | Path, method: str | None = None, configfile: str | Path | Sequence[str | Path] | None = None
    ):
        self.folder = Path(folder)
        methods = sorted(path.parts[-3] for path in self.folder.glob(FILES["edges"].pattern.format(method="*")))
        if not methods:
            raise UserError(
                f"{folder} holds no finished graph; run snakemake or gigraph run first, or give its results' folder"
            )
        if method is not None and method not in methods:
            raise UserError(f"{folder} has no method {method!r} (there are: {', '.join(methods)})")
        self.method = method or ("bisecting" if "bisecting" in methods else methods[0])
        self._file = partial(Results(folder), method=self.method)
        self._planned = _last(self.folder) if configfile is None else _own(self.folder, configfile)
        self._names = {row["label"]: row["class"] for row in self.classes.iter_rows(named=True)}
        self._shown = _given_names(self.folder)

    def __repr__(self) -> str:
        return f"gigraph.open({str(self.folder)!r}, method={self.method!r})"

    # ---- what there is ------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[str]:
        """The layers' names, from input to output."""
        return [layer for layer in self._frame("layers")["layer"] if self._file("concepts", layer=layer).is_file()]

    @property
    def classes(self) -> pl.DataFrame:
        """Columns label, class, and the model's task."""
        return self._frame("classes")

    @property
    def images(self) -> pl.DataFrame:
        """Every image with its label and prediction."""
        return self._frame("images")

    def concepts(self, layer: str) -> pl.DataFrame:
        """Return a layer's concepts: id, size, images, cohesion, its family, the classes that keep it, and its vector.

        A concept's family is the one that leads it (`families`); its number of classes is 0 if another one does.

        Raises
        ------
        UserError
            If there is no such layer.
        """
        self._check_layer(layer)
        nodes = self._frame("nodes").filter(pl.col("layer") == layer)
        found = self._frame("concepts", layer=layer).drop("node")
        found = found.join(nodes.select("concept", "family", "classes"), on="concept", how="left").sort("concept")
        return found.select("concept", "size", "images", "cohesion", "family", "classes", "vector")

    def families(self, layer: str) -> pl.DataFrame:
        """Return a layer's families: family, members, their mean and smallest cosine, the classes that keep it.

        A family is named by the concept that leads it, and is what the graph's ids mean. The largest come first.

        Raises
        ------
        UserError
            If there is no such layer.
        """
        self._check_layer(layer)
        nodes = self._frame("nodes").filter(pl.col("layer") == layer)
        found = self._frame("families", layer=layer).filter(pl.col("concept") == pl.col("family"))
        found = found.join(nodes.select("concept", "classes"), on="concept", how="left")
        found = found.select("family", "members", "inner_cosine", "least_cosine", "classes")
        return found.sort("members", "family", descending=[True, False])

    def members(self, layer: str, family: int) -> pl.DataFrame:
        """Return the members of a family: concept, its cosine to the family's direction, size, cohesion.

        Raises
        ------
        UserError
            If there is no such layer.
        """
        self._check_layer(layer)
        found = self._frame("families", layer=layer).filter(pl.col("family") == family)
        found = found.join(self._frame("concepts", layer=layer), on="concept")
        found = found.sort("cosine", "concept", descending=[True, False])
        return found.select("concept", "cosine", "size", "cohesion")

    def nearest_images(self, layer: str, concept: int, count: int = 10, by: str = "response") -> pl.DataFrame:
        """Return images of a concept: path, label, y, x, value, cosine, and the box of the patch.

        Parameters
        ----------
        layer, concept : str, int
            Only concepts that a class keeps have images; for others the frame is empty.
        count : int
            At most so many.
        by : {"response", "relevance"}
            By the PFVs in which the concept responds most (`exemplars.reading`), or is most relevant to the image's
            class; ``value`` is that.
        """
        self._check_layer(layer)
        if by not in ("response", "relevance"):
            raise UserError(f"images are ranked by response or relevance, not by {by!r}")
        mine = (pl.col("concept") == concept) & (pl.col("by") == by)
        found = self._frame("exemplars", layer=layer).filter(mine)
        return found.sort("rank").select("path", "label", "y", "x", "value", "cosine", "box").head(count)

    # ---- the graph ----------------------------------------------------------------------------------------------

    def edges(self, of: str | int | None = None, shown: bool = True) -> pl.DataFrame:
        """Return edges: mean attribution, standard error (null of one image), support, weight and exact ablation.

        Parameters
        ----------
        of : str or int, optional
            A class, by name or label: means over its images. The whole dataset if not given.
        shown : bool
            Of a class, only edges between concepts that it keeps. Those of the dataset are all returned.

        Raises
        ------
        UserError
            If there is no such class, or none of its images is attributed.
        """
        scope = DATASET if of is None else self._attributed(of)
        edges = self._frame("edges").filter(pl.col("scope") == scope)
        return edges.filter(pl.col("shown")) if shown and of is not None else edges

    def member_edges(self, of: str | int) -> pl.DataFrame:
        """Return what the members of families do, over a class's images: parts of its shown edges, and of all to it.

        The means of a family's members add up to the family's; their standard errors do not.
        """
        return self._frame("members").filter(pl.col("scope") == self._attributed(of))

    def relevance(self, of: str | int) -> pl.DataFrame:
        """Return a class's concepts by mean relevance (Eq. 7): layer, rank, concept, relevance, se, support."""
        kept = self._frame("kept_of_all").filter(pl.col("scope") == self._attributed(of))
        order = pl.col("layer").replace_strict({name: i for i, name in enumerate(self.layers)})
        return kept.sort(order, "rank").drop("scope")

    def causes(self, of: str | int, layer: str | None = None) -> pl.DataFrame:
        """Return what concepts do for a class over its images, drawn or not, the strongest of each layer first.

        Parameters
        ----------
        of : str or int
            A class, by name or label.
        layer : str, optional
            One layer's; all layers', one after the other, if not given.

        Returns
        -------
        DataFrame
            ``layer``, ``concept``, ``mean`` attribution with its ``se`` and ``support``, ``share`` of the sum of |mean|
            over all that the layer does for the class, and the exact ``ablation`` with ``ablation_se``, null where it
            was not checked.

        Raises
        ------
        UserError
            If there is no such class or layer, or no image of the class is attributed.
        """
        label = self._attributed(of)
        if layer is not None and layer not in self.layers:
            raise UserError(f"there is no layer {layer!r} in this run{nearest(layer, self.layers)}")
        own = self._frame("edges").filter(
            pl.col("scope") == label, pl.col("target_layer") == CLASSES, pl.col("target") == label
        )
        total = pl.col("mean").cast(pl.Float64).abs().sum().over("source_layer")
        own = own.with_columns(share=pl.when(total > 0).then(pl.col("mean") / total).otherwise(0.0))
        own = own.filter(pl.col("source") >= 0, True if layer is None else pl.col("source_layer") == layer)
        order = pl.col("source_layer").replace_strict({name: i for i, name in enumerate(self.layers)})
        found = own.sort(order, "mean", "source", descending=[False, True, False])
        columns = ("mean", "se", "support", "share", "ablation", "ablation_se")
        found = found.select(pl.col("source_layer").alias("layer"), pl.col("source").alias("concept"), *columns)
        return found.with_columns(pl.col("ablation", "ablation_se").fill_nan(None))

    def shared(self, classes: Iterable[str | int]) -> pl.DataFrame:
        """Return the concepts that all the classes keep, by the least relevance that one of them draws from it."""
        labels = [self._attributed(of) for of in classes]
        kept = self._frame("kept_of_all").filter(pl.col("scope").is_in(labels))
        found = kept.group_by("layer", "concept").agg(
            pl.col("scope").n_unique().alias("classes"), pl.col("relevance").min().alias("least_relevance")
        )
        order = pl.col("layer").replace_strict({name: i for i, name in enumerate(self.layers)})
        found = found.filter(pl.col("classes") == len(set(labels))).drop("classes")
        return found.sort(order, "least_relevance", "concept", descending=[False, True, False])

    # ---- circuits -----------------------------------------------------------------------------------------------

    def circuits(self) -> pl.DataFrame:
        """Return how much of each class its circuits carry when they run alone, one row for each class and order.

        The column ``order`` says what the row is of: ``network``, as it is; ``layer``, with that layer alone replaced
        by all its concepts; an attribution method or ``random``, the smallest circuit along that order that keeps the
        wanted share; ``pruned``, the smallest that was found. Others: `gigraph.records.schemas`.

        Raises
        ------
        UserError
            If the run has no circuits.
        """
        found = self._shards("circuits").join(self.classes.select(pl.col("label").alias("scope"), "class"), on="scope")
        return found.select("class", pl.exclude("class"))

    def circuit(self, of: str | int, size: int | None = None) -> pl.DataFrame:
        """Return the nodes of a class's circuit: layer, concept, rank and relevance; the most relevant first.

        Parameters
        ----------
        of : str or int
            A class, by name or label.
        size : int, optional
            That of the first so many nodes by relevance; default the smallest circuit that was found.

        Raises
        ------
        UserError
            If there is no such class, it has no circuit, or none keeps the wanted share. (Where no node at all does as
            well, the frame is empty.)
        """
        label = self._attributed(of)
        mine = self._shards("circuit_members").filter(pl.col("scope") == label)
        if mine.is_empty():
            raise UserError(f"class {self._names[label]!r} has no circuit: see circuit.classes")
        chosen = mine.filter(pl.col("smallest") if size is None else pl.col("rank") < size)
        (pruned,) = self._shards("circuits").filter(pl.col("scope") == label, pl.col("order") == "pruned")["size"]
        if size is None and pruned is None:
            raise UserError(
                f"class {self._names[label]!r}: no circuit of the graph's {len(mine)} nodes alone keeps as much of the "
                "network's score as circuit.share asks for; give size, or see circuit_curve for what each size keeps"
            )
        return chosen.sort("rank").select("layer", "concept", "rank", "relevance")

    def circuit_curve(self, of: str | int) -> pl.DataFrame:
        """Return what a class's circuits say by their size, along each order, and how faithful that is.

        Raises
        ------
        UserError
            If there is no such class, or it has no circuit.
        """
        label = self._attributed(of)
        found = self._shards("circuit_curves").filter(pl.col("scope") == label).drop("scope")
        if found.is_empty():
            raise UserError(f"class {self._names[label]!r} has no circuit: see circuit.classes")
        return found

    def image_circuit(self, image: int) -> ImageCircuit:
        """Run the network on some nodes of the graph alone, for one attributed image: its own circuit.

        Nodes go in the order of the image's own relevances. It takes the model, the images and some seconds.

        Parameters
        ----------
        image : int
            The image's id, as in ``table("selection")``.

        Returns
        -------
        ImageCircuit
            ``found.smallest``: what the smallest circuit says that keeps `circuit.share` of the image's probability;
            ``found.curves``: what circuits of each size do; ``members``: which nodes they are.

        Raises
        ------
        UserError
            If the image is not attributed, or the run is not what its configuration plans.
        """
        from gigraph.image_circuit import image_circuit
        from gigraph.planning.opening import plan_of

        return image_circuit(plan_of(self.folder), self.method, image)

    def graph_scores(self, of: str | int) -> dict[str, float]:
        """Return the ``replacement`` and ``completeness`` score of a class's graph, and the part ``followed``.

        They are read off the graph's edges, nothing is run: `gigraph.method.circuit.graph_scores`.
        """
        label, chain = self._attributed(of), [*self.layers, CLASSES]
        edges, pairs = self._frame("edges").filter(pl.col("scope") == label), []
        for source, target in reversed(list(itertools.pairwise(chain))):
            own = edges.filter((pl.col("source_layer") == source) & (pl.col("target_layer") == target))
            into: dict[int, tuple[dict[int, float], float, float]] = {}
            for (to,), rows in own.partition_by("target", as_dict=True).items():
                values = dict(rows.select("source", "mean").iter_rows())
                error, rest = values.pop(ERROR_NODE, 0.0), values.pop(REMAINDER, 0.0)
                into[int(to)] = values, error, rest  # type: ignore[call-overload]
            pairs.append(into)
        return dict(zip(("replacement", "completeness", "followed"), graph_scores(pairs, label), strict=True))

    def _shards(self, name: str) -> pl.DataFrame:
        folder = self._file(name, shard=0).parent
        there = [self._file(name, shard=path.stem) for path in folder.glob("*.parquet") if path.stem.isdigit()]
        if self._planned is not None:  # a run of more shards has left some that are no part of this one
            there = [path for path in there if self._planned(path) is not None]
        if not there:
            raise UserError(f"{self.folder} has no circuits of {self.method}; run snakemake again, it will make them")
        return pl.concat([self._read(path) for path in sorted(there)])

    def to_networkx(self, of: str | int) -> networkx.DiGraph:
        """Return a class's shown graph. Nodes are (layer, concept) and ("classes", label).

        Edges carry mean, se (of several images), support, weight and ablation; nodes carry the columns of
        ``nodes.parquet``. Needs networkx, which comes with torch.
        """
        import networkx

        graph = networkx.DiGraph(scope=self._attributed(of), method=self.method)
        for row in self.edges(of).iter_rows(named=True):
            ends = (row["source_layer"], row["source"]), (row["target_layer"], row["target"])
            measured = {name: row[name] for name in ("mean", "se", "support", "weight", "ablation")}
            graph.add_edge(*ends, **{name: value for name, value in measured.items() if value is not None})
        for row in self._frame("nodes").iter_rows(named=True):
            if (row["layer"], row["concept"]) in graph:
                graph.nodes[row["layer"], row["concept"]].update(row)
        return graph

    def table(self, name: str) -> pl.DataFrame:
        """Return any table below the method's folder, such as ``evaluation/reconstruction``.

        Raises
        ------
        UserError
            If there is no such table, with the nearest names.
        """
        home = self.folder / self.method
        if not (home / f"{name}.parquet").is_file():
            there = [path.relative_to(home).with_suffix("").as_posix() for path in home.rglob("*.parquet")]
            raise UserError(f"there is no table {name!r} in {home}{nearest(name, there)}")
        return self._read(home / f"{name}.parquet")

    # ---- the model ----------------------------------------------------------------------------------------------

    def edited(
        self, model: nn.Module, suppress: Iterable[str] = (), boost: Iterable[str] = (), gain: float = 1.0,
        only_where: float | None = None,
    ) -> nn.Module:  # fmt: skip
        """Return the model with concepts taken out of its layers, or made stronger, for good and for all inputs.

        Parameters
        ----------
        model : nn.Module
            The run's model with the run's weights. It is not changed.
        suppress, boost : iterable of str
            ``"layer3.1:9,10"`` or ``"layer3.1:family=11"``, as on the command line. The pre-activation x at the layer
            becomes x - P (x - beta), with P the projection on the concepts' span; boosted, x + gain P (x - beta).
        gain : float
            Of what is boosted.
        only_where : float, optional
            Edit only where the cosine of x - beta to the concepts' mean direction is above this. The gate is a step:
            gradients are those of the projection where it is open.

        Returns
        -------
        nn.Module
            A copy of the modules that shares parameters and buffers with `model`, in its mode and with its state dict's
            keys. It is differentiable, and can be trained, copied and pickled; move both to a device together.

        Raises
        ------
        UserError
            If the model is not the run's (its weights differ), or there is no such layer or concept.
        """
        from gigraph.edit import Choice, Edited
        from gigraph.planning.opening import plan_of

        asked = (("suppress", suppress), ("boost", boost))
        choices = [Choice.parse(action, text) for action, many in asked for text in _several(many)]
        opened = Edited(plan_of(self.folder), choices, gain, only_where, self.method)
        opened.check(model)
        return opened.apply(model)

    def label(self, of: str | int) -> int:
        """Return the label of a class given by label, by name, or by what the explorer calls it.

        Raises
        ------
        UserError
            If there is no such class, with the nearest name.
        """
        if of in self._names:
            return int(of)
        labels, names = list(self._names), list(self._names.values())
        place = None
        if isinstance(of, str):
            place = find_class(of, names, self._shown)
            place = find_class(of, names) if place is None else place
        if place is None:
            some = f"; there are {', '.join(names[:10])}{', ...' * (len(names) > 10)}"
            raise UserError(f"there is no class {of!r}{nearest(str(of), names) or some}")
        return labels[place]

    def _attributed(self, of: str | int) -> int:
        """Return the label of a class that has a graph.

        Raises
        ------
        UserError
            If there is no such class, or none of its images is attributed.
        """
        label = self.label(of)
        there = sorted(self._frame("selection")["label"].unique())
        if label not in there:
            some = ", ".join(repr(self._names.get(one, one)) for one in there[:5])
            raise UserError(
                f"no image of class {self._names[label]!r} is attributed; add it to attribution.classes and run "
                f"snakemake again, or take one of {len(there)} others: {some}{', ...' * (len(there) > 5)}"
            )
        return label

    def _check_layer(self, layer: str) -> None:
        if layer not in self.layers:
            raise UserError(f"there is no layer {layer!r}{nearest(layer, self.layers)}")

    def _frame(self, name: str, **of: str) -> pl.DataFrame:
        return self._read(self._file(name, **of))

    def _read(self, path: Path) -> pl.DataFrame:
        """Read a table that is what was planned.

        Raises
        ------
        UserError
            If it is missing, or made from something else.
        """
        found = pl.DataFrame(pl.from_arrow(tables.read(path)))
        if self._planned is not None and self._planned(path) != tables.lineage_of(path):
            raise UserError(
                f"{path} is left from other settings, code or inputs than planned now; run snakemake to its end, or "
                "give the folder of another run"
            )
        return found


def _several(texts: Iterable[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _given_names(folder: Path) -> dict[str, str]:
    """Return what the last run in a folder was told to call classes; nothing where that is not known."""
    try:
        return dict(json.loads((folder / FILES["run"].pattern).read_text())["config"]["explorer"]["names"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _last(folder: Path) -> Planned | None:
    """Return what the last run in a folder planned; None where nothing says so: tables without their run."""
    try:
        plan = json.loads((folder / FILES["plan"].pattern).read_text())
    except (OSError, ValueError):
        return None
    root = os.path.commonpath([*plan, *(str(Path(path).parent) for path in plan)]) if plan else ""
    return lambda path: plan.get(str(Path(root) / path.relative_to(folder)))


def _own(folder: Path, files: str | Path | Sequence[str | Path]) -> Planned:
    """Return what a configuration plans."""
    from gigraph.explain import opened
    from gigraph.planning.standing import planned

    many = [files] if isinstance(files, str | Path) else files
    plan = opened([Path(file) for file in many])
    return lambda path: planned(plan, plan.root / path.relative_to(folder))


__all__ = ["CLASSES", "Run"]
