"""The difference of two finished runs: which concepts they share, and what is decided otherwise."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from gigraph.differences.effects import EDGE, RELEVANCE, Compared, noise_of, ranked
from gigraph.differences.finished import Finished
from gigraph.differences.images import LOOKED_AT, Common, common_images
from gigraph.differences.responses import Seen, Vocabularies, look, matched
from gigraph.errors import UserError, nearest
from gigraph.explorer.difference import Shown, Side, write_page
from gigraph.hashing import file_digest
from gigraph.method.contrast import disagreement, false_discovery, paired
from gigraph.method.matching import Matching
from gigraph.records.files import replacing
from gigraph.reporting import log
from gigraph.reserved import CLASSES
from gigraph.version import __version__

FDR = 0.05
"""False discovery rate of what is ranked."""
FEWEST = 10
"""Images without which no concepts are matched."""
NOISE = ("--noise", "--noise-b")
"""What further trainings of A and of B are given as."""
CONCEPT = {
    "layer": pl.String, "level": pl.String, "a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64,
    "chance": pl.Float64, "cosine": pl.Float64, "members_a": pl.Int64, "members_b": pl.Int64,
}  # fmt: skip
ONLY = {
    "layer": pl.String, "level": pl.String, "concept": pl.Int64, "members": pl.Int64, "best": pl.Float64,
    "chance": pl.Float64, "split_from": pl.Int64,
}  # fmt: skip
CLASS = {
    "class": pl.String, "images": pl.Int64, "accuracy_a": pl.Float64, "accuracy_b": pl.Float64,
    "accuracy_p": pl.Float64, "accuracy_q": pl.Float64, "same_prediction": pl.Float64, "looked_at": pl.Int64,
    "score_a": pl.Float64, "score_b": pl.Float64, "difference": pl.Float64, "se": pl.Float64, "p": pl.Float64,
    "q": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """What two runs say differently, as polars frames.

    Attributes
    ----------
    a, b : str
        The results folders.
    method_a, method_b : str
        Whose concepts.
    concepts : DataFrame
        Matched concepts: layer, level (``family``: a node of the graphs that stands for several near-parallel concepts;
        ``concept``: a single one), their ids, the correlation of their responses, the chance level that it is above,
        the cosine of their vectors where both models have the same features (else null), and members.
    only_a, only_b : DataFrame
        Concepts without a partner, with the largest correlation that they reach, be it that of a concept with a nearer
        partner, and the chance level of each. ``split_from`` is the concept of the other run that one is cut from
        (`gigraph.method.matching`); where it is null, only this run has the concept.
    relevances, edges : DataFrame
        What differs of what concepts do for classes, and for each other, by rank; `gigraph.differences.effects`. Kept
        is what is told from chance at the false discovery rate; ids are null where a run has no such concept.
    classes : DataFrame
        Accuracy over all common images (null without labels), and the mean score of the class's images (its
        probability; of a regression how far the value lies on that side) over those that both models ran on.
    notes : list of str
        What was left out, and why.
    facts : dict
        Images, layers, classes, false discovery rate; the further trainings, their degrees of freedom, and the standard
        deviation that another training adds to differences of relevances, by kind.
    runs : two Finished
        The runs, opened.
    """

    a: str
    b: str
    method_a: str
    method_b: str
    concepts: pl.DataFrame
    only_a: pl.DataFrame
    only_b: pl.DataFrame
    relevances: pl.DataFrame
    edges: pl.DataFrame
    classes: pl.DataFrame
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    runs: tuple[Finished, ...] = field(default=(), repr=False)

    TABLES: ClassVar = ("concepts", "only_a", "only_b", "relevances", "edges", "classes")

    @property
    def equal(self) -> bool:
        """Whether nothing differs: every concept has its partner, every effect and every prediction is the same."""
        missing = len(self.only_a) + len(self.only_b) + len(self.relevances) + len(self.edges)
        scores = self.classes.filter((pl.col("difference") != 0) | (pl.col("same_prediction") < 1))
        return not missing and not len(scores)

    @property
    def differs(self) -> pl.DataFrame:
        """The relevances that are kept at the false discovery rate, by rank."""
        return self.relevances.filter("kept")

    def __repr__(self) -> str:
        return f"gigraph.diff({self.a!r}, {self.b!r}): {self.said()}"

    def said(self) -> str:
        """Return the result in one line."""
        if self.equal:
            return "nothing differs"
        counts = self.counts()
        beyond = " by more than trainings do" if any(self.facts["noise"].values()) else ""
        kept = f"{len(self.differs)} relevances and {self.edges['kept'].sum()} edges differ{beyond}"
        return (
            f"{kept}; {counts['a']} concepts only in A, {counts['b']} only in B, {counts['both']} in both, "
            f"{counts['split']} split otherwise"
        )

    def counts(self) -> dict[str, int]:
        """Return how many nodes of the graphs both have, only A (``a``) or B (``b``), and how many are ``split``."""
        only = {"a": self.only_a, "b": self.only_b}
        whole = {end: self.nodes(frame.filter(pl.col("split_from").is_null())) for end, frame in only.items()}
        split = sum(self.nodes(frame) for frame in only.values()) - sum(whole.values())
        return {"both": self.nodes(self.concepts), **whole, "split": split}

    def nodes(self, frame: pl.DataFrame) -> int:
        """Return how many rows of a frame of concepts are nodes of the graphs."""
        return len(frame) - len(self.singles(frame))

    def singles(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of a frame that are single concepts of layers whose nodes are families."""
        whole = self.facts["families"]
        return frame.filter((pl.col("level") == "concept") & pl.col("layer").is_in(whole))

    def summary(self) -> dict[str, Any]:
        """Return the facts and numbers of `summary.json`."""
        return {
            "gigraph": __version__, "a": self.a, "b": self.b, "methods": [self.method_a, self.method_b],
            "equal": self.equal, "said": self.said(), **self.facts, "notes": self.notes,
            "relevances": len(self.differs), "edges": int(self.edges["kept"].sum()), "concepts": self.counts(),
        }  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write a Parquet table of each frame, ``summary.json`` and the page; return where the page is.

        Raises
        ------
        UserError
            If the folder holds something else, or cannot be written to.
        """
        folder = checked(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in self.TABLES:
                with replacing(folder / f"{name}.parquet") as temporary:
                    getattr(self, name).write_parquet(temporary)
            with replacing(folder / "summary.json") as temporary:
                temporary.write_text(json.dumps(self.summary(), indent=1) + "\n", encoding="utf-8")
            frames = {name: getattr(self, name) for name in self.TABLES}
            shown = Shown(said=self.said(), equal=self.equal, facts=self.facts, notes=self.notes, **frames)
            return write_page(folder, (_side(self.runs[0]), _side(self.runs[1])), shown)
        except OSError as error:
            raise UserError(f"--out: cannot write to {folder}: {error.strerror}; choose another folder") from None


OWN = {"summary.json", "index.html", "app", "pictures", *(f"{name}.parquet" for name in Difference.TABLES)}
"""What a written difference consists of."""


def checked(folder: str | Path) -> Path:
    """Return a folder that a difference may be written to: it is empty, or holds an earlier one.

    Raises
    ------
    UserError
        If it holds anything else, or is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: {folder} is a file; give a folder")
    strangers = sorted({path.name for path in folder.iterdir()} - OWN) if folder.exists() else []
    if strangers:
        raise UserError(
            f"--out: {folder} holds {strangers[0]}, which is no part of a difference; choose another folder"
        )
    return folder


def difference(
    a: str | Path,
    b: str | Path,
    method: str | Sequence[str] | None = None,
    fdr: float = FDR,
    images: int = LOOKED_AT,
    noise: str | Path | Sequence[str | Path] = (),
    noise_b: str | Path | Sequence[str | Path] = (),
) -> Difference:
    """Compare two finished runs.

    Parameters
    ----------
    a, b : path
        Their results folders.
    method : str or two, optional
        The concept extractor of both, or of either; the first of each run if not given.
    fdr : float
        False discovery rate, in (0, 1), of relevances and of edges.
    images : int
        Images that both models run on, to match concepts and compare probabilities, at most; at least 10.
    noise, noise_b : path or several
        Results of further trainings of A, and of B: all pairs of trainings alike are compared as A and B are, and what
        differs between these is no difference (`gigraph.differences.effects.noise_of`).

    Raises
    ------
    UserError
        If a run is not finished, the two have nothing in common that could be compared, or a further training is none.
    """
    if not 0 < fdr < 1:
        raise UserError(f"--fdr: {fdr} is no false discovery rate; give a number between 0 and 1, such as {FDR}")
    if images < FEWEST:
        raise UserError(f"--images: concepts cannot be matched on {images} images; give {FEWEST} or more")
    given = [method, method] if method is None or isinstance(method, str) else list(method)
    if len(given) == 1:
        given *= 2
    if len(given) != 2:
        raise UserError(f"--method: {len(given)} are given; give one for both runs, or two")
    further = [[one] if isinstance(one, str | Path) else list(one) for one in (noise, noise_b)]
    _check_others([Path(a), Path(b)], further)
    runs = Finished(a, given[0]), Finished(b, given[1])
    alike = [
        [run, *(Finished(other, run.method) for other in others)] for run, others in zip(runs, further, strict=True)
    ]
    notes: list[str] = []
    view = View(images)
    found = view.look(runs, notes)
    groups = [(group, view.noise(group, flag)) for group, flag in zip(alike, NOISE, strict=True) if len(group) > 1]
    levels = {
        name: noise_of([(len(group), [getattr(pair, name) for pair in pairs]) for group, pairs in groups])
        for name in ("relevances", "edges")
    }
    relevances, edges = (ranked(getattr(found, name), fdr, noise) for name, noise in levels.items())
    tested = pl.col("rank").is_not_null() & pl.col("noise").is_null()
    if groups and any(len(frame.filter(tested)) for frame in (relevances, edges)):
        notes.append("the further trainings do not tell the noise of all kinds; there errors are over images only")
    facts = {
        "fdr": fdr, "layers": found.layers, "classes": found.classes, "images": len(found.common.images),
        "shared": found.common.shared, "looked_at": len(found.looked), "task": runs[0].task, "output": runs[0].output,
        "families": [name for name in found.layers if any(run.families(name).merged for run in runs)],
        "compared": {
            "relevances": len(found.relevances) - found.relevances["p"].null_count(),
            "edges": len(found.edges) - found.edges["p"].null_count(),
        },
        "noise": {end: [str(run.folder) for run in group[1:]] for end, group in zip("ab", alike, strict=True)},
        "freedom": sum(len(group) - 1 for group, _ in groups),
        "deviations": dict(levels["relevances"].select("kind", "noise").sort("kind").iter_rows()),
    }  # fmt: skip
    return Difference(
        str(a), str(b), runs[0].method, runs[1].method, *_concepts(runs, found.matched), relevances, edges,
        _classes(runs, found), notes, facts, runs,
    )  # fmt: skip


def _check_others(runs: Sequence[Path], further: Sequence[Sequence[str | Path]]) -> None:
    """Refuse a run that is given twice: as its own further training it would say that there is no noise."""
    seen = {run.resolve() for run in runs}
    for flag, others in zip(NOISE, further, strict=True):
        for other in others:
            if Path(other).resolve() in seen:
                raise UserError(f"{flag}: {other} is given twice; give the results of another training")
            seen.add(Path(other).resolve())


class View:
    """Pairs of runs looked at; each run once on the same images.

    Parameters
    ----------
    images : int
        That both models of a pair run on, at most.
    """

    def __init__(self, images: int):
        self.images = images
        self._seen: dict[tuple[int, tuple[str, ...]], Seen] = {}

    def look(self, runs: tuple[Finished, Finished], notes: list[str], whole: bool = True) -> Looked:
        """Look at two runs.

        Parameters
        ----------
        runs : two Finished
        notes : list of str
            What is left out is added.
        whole : bool
            Match single concepts as well as the graphs' nodes.
        """
        layers, classes = _in_common(runs, notes)
        common, folder = common_images(*runs), runs[0].image_folder
        if not common.shared:
            notes.append(
                f"the runs share no image: concepts are matched on images of {runs[0].folder}, seen by both models"
            )
        looked = common.spread(self.images)
        if len(looked) < FEWEST:
            raise UserError(
                f"{runs[0].folder} and {runs[1].folder} have {len(looked)} images in common, {FEWEST} are needed to "
                "match concepts; give runs of the same images, or of more"
            )
        content = tuple(file_digest(folder / path) for path in looked["path"])
        seen = []
        for run, side in zip(runs, "ab", strict=True):
            key = id(run), content
            if key not in self._seen:
                self._seen[key] = look(run, run.layers, folder, looked, side)
            seen.append(self._seen[key])
        found = {}
        for layer in layers:
            found[layer] = one = matched(runs, (seen[0], seen[1]), layer, whole)
            counts = [len(ids) for ids in one.ids]
            log.info("%s: %d of %d and %d concepts match", layer, len(one.nodes.one), *counts)
        effects = _effects(runs, Compared(runs, common, found, classes), layers, notes)
        return Looked(layers, classes, common, looked, (seen[0], seen[1]), found, *effects)

    def noise(self, group: Sequence[Finished], flag: str) -> list[Looked]:
        """Look at all pairs of trainings alike.

        Raises
        ------
        UserError
            If two differ in more than their training, or in nothing at all: they are one training.
        """
        found = []
        for one, two in itertools.combinations(group, 2):
            pair = self.look((one, two), [], whole=False)
            alike = {
                "layers": one.layers == two.layers, "classes": one.names == two.names, "images": pair.common.shared,
                "attributions (attribution.method)": one.attribution == two.attribution,
                "attributions (attribution.class_output)": one.output == two.output,
            }  # fmt: skip
            for what, same in alike.items():
                if not same:
                    raise UserError(
                        f"{flag}: {one.folder} and {two.folder} have other {what}, so that they do not tell what "
                        "training alone changes; give runs that are alike but for the seed of their training"
                    )
            if not len(ranked(pair.relevances, FDR)) and not len(ranked(pair.edges, FDR)):
                raise UserError(
                    f"{flag}: {one.folder} and {two.folder} do not differ in any relevance or edge, so that they tell "
                    "no noise; give results of trainings with another seed"
                )
            found.append(pair)
        return found


@dataclass(frozen=True)
class Looked:
    """Two runs looked at: what they have in common, what their models say, and all that was compared."""

    layers: list[str]
    classes: list[str]
    common: Common
    looked: pl.DataFrame
    seen: tuple[Seen, Seen]
    matched: dict[str, Vocabularies]
    relevances: pl.DataFrame
    edges: pl.DataFrame


def _side(run: Finished) -> Side:
    """Return what the page needs of a run."""
    site = run.results("explorer")
    shows = site.is_file() and run.method == run.plan.config.methods[0]
    folders = {layer: run.results("exemplars", method=run.method, layer=layer).parent for layer in run.layers}
    classes = run.run.classes.sort("label")["class"].to_list()
    return Side(run.folder, run.method, folders, run.plan.config.explorer.labels, classes, site if shows else None)


def _in_common(runs: tuple[Finished, Finished], notes: list[str]) -> tuple[list[str], list[str]]:
    """Return the layers and classes that both runs have, and note what only one has.

    Raises
    ------
    UserError
        If there are none, or the models' outputs mean different things.
    """
    one, two = runs
    if one.task != two.task:
        raise UserError(
            f"the outputs of {one.folder} are {one.task}, those of {two.folder} {two.task} (model.task): what they "
            "decide cannot be compared; give two runs of one task"
        )
    layers = [name for name in one.layers if name in two.layers]
    if not layers:
        raise UserError(
            f"{one.folder} and {two.folder} have no layer of the same name ({', '.join(one.layers)}; "
            f"{', '.join(two.layers)}){nearest(one.layers[-1], two.layers)}; run one of them with layers of the other"
        )
    classes = [name for name in one.names if name in two.names]
    for what, common, lists in (
        ("layers", layers, (one.layers, two.layers)), ("classes", classes, ([*one.names], [*two.names])),
    ):  # fmt: skip
        for run, names in zip(runs, lists, strict=True):
            if left := [name for name in names if name not in common]:
                few = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
                notes.append(f"{what} that only {run.folder} has are left out: {few}")
    if not classes:
        notes.append("no class has the same name in both: what concepts do for classes and each other is left out")
    return layers, classes


def _effects(
    runs: tuple[Finished, Finished], compared: Compared, layers: list[str], notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return all relevances and edges that can be compared, and note what cannot."""
    one, two = runs
    relevances, edges = pl.DataFrame(schema=RELEVANCE), pl.DataFrame(schema=EDGE)
    if one.attribution != two.attribution:
        notes.append(
            f"relevances and edges are left out: {one.folder} attributes by {one.attribution}, {two.folder} by "
            f"{two.attribution} (attribution.method)"
        )
    else:
        if left := [name for name in compared.classes if name not in compared.sides]:
            notes.append(f"{len(left)} classes have no attributed image in one of the runs, the first is {left[0]}")
        if compared.sides and not any(side.same for side in compared.sides.values()):
            notes.append("the runs attribute different images: means are compared, not images")
        if one.output == two.output:
            relevances = compared.relevances()
        else:
            notes.append(
                f"relevances are left out: {one.folder} attributes the {one.output}, {two.folder} the {two.output} "
                "(attribution.class_output)"
            )
        pairs = [(a, b) for a, b in one.plan.pairs if b != CLASSES and a in layers and b in layers]
        edges = pl.concat([edges, *(compared.edges(*pair) for pair in pairs)])
    return relevances, edges


def _concepts(
    runs: tuple[Finished, Finished], vocabularies: dict[str, Vocabularies]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    both, only = [pl.DataFrame(schema=CONCEPT)], [[pl.DataFrame(schema=ONLY)] for _ in runs]
    for layer, found in vocabularies.items():
        families = [run.families(layer) for run in runs]
        merged = any(one.merged for one in families)
        levels: list[tuple[str, Matching, list[np.ndarray]]] = [
            ("family" if merged else "concept", found.nodes, list(found.ids))
        ]
        if found.single is not None:
            levels.append(("concept", found.single, [np.arange(len(one.leader)) for one in families]))
        for level, matching, ids in levels:
            ends = [ids[0][matching.one], ids[1][matching.two]]
            node = matching is found.nodes
            members = [one.size[end] if node else np.ones(len(end)) for one, end in zip(families, ends, strict=True)]
            cosine = found.cosines[matching.one, matching.two] if node and found.cosines is not None else None
            both.append(_of(CONCEPT, {
                "layer": layer, "level": level, "a": ends[0], "b": ends[1], "similarity": matching.similarity,
                "chance": matching.chance, "cosine": cosine, "members_a": members[0], "members_b": members[1],
            }, len(ends[0])))  # fmt: skip
            sides = (
                (matching.one, matching.best_of_one, matching.level_of_one, matching.split_of_one),
                (matching.two, matching.best_of_two, matching.level_of_two, matching.split_of_two),
            )
            for where, own, other, group, (there, best, level_of, split) in zip(
                only, ids, ids[::-1], families, sides, strict=True
            ):
                left = np.setdiff1d(np.arange(len(best)), there)
                source = np.where(split[left] >= 0, other[split[left]], -1) if len(other) else split[left]
                count = group.size[own[left]] if node else np.ones(len(left))
                where.append(_of(ONLY, {
                    "layer": layer, "level": level, "concept": own[left], "members": count, "best": best[left],
                    "chance": level_of[left], "split_from": source,
                }, len(left)).with_columns(pl.col("split_from").replace(-1, None)))  # fmt: skip
    return pl.concat(both), pl.concat(only[0]), pl.concat(only[1])


def _of(schema: dict[str, Any], columns: dict[str, Any], rows: int) -> pl.DataFrame:
    """Return a frame of a schema, single values repeated."""
    spread = {
        name: columns[name] if isinstance(columns[name], np.ndarray) else [columns[name]] * rows for name in schema
    }
    frame = pl.DataFrame(spread).select([pl.col(name).cast(kind) for name, kind in schema.items()])
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def _classes(runs: tuple[Finished, Finished], found: Looked) -> pl.DataFrame:
    """Compare what the two models say of the images of each class."""
    (one, two), common, looked, seen = runs, found.common, found.looked, found.seen
    told = common.images
    if common.shared:
        for end, run in (("a", one), ("b", two)):
            said = run.images.select(pl.col("image_id").alias(end), pl.col("predicted").alias(f"said_{end}"))
            told = told.join(said, on=end, how="left")
    else:
        told = looked.with_columns(said_a=pl.Series(seen[0].predicted), said_b=pl.Series(seen[1].predicted))
    told = told.with_columns(
        pl.col(f"said_{end}").replace_strict({label: name for name, label in run.names.items()}, default=None)
        for end, run in (("a", one), ("b", two))
    )
    rows, known = [], not one.unlabelled
    for name in found.classes:
        mine = told.filter(pl.col("class") == name)
        if not len(mine):
            continue
        right = [(mine[f"said_{end}"] == name).fill_null(False).to_numpy() for end in ("a", "b")]
        where = (looked["class"] == name).to_numpy()
        scores = [side.scores[where, run.names[name]][:, None] for side, run in zip(seen, runs, strict=True)]
        contrast = paired(*scores) if where.any() else None
        rows.append({
            "class": name, "images": len(mine),
            "accuracy_a": right[0].mean() if known else None, "accuracy_b": right[1].mean() if known else None,
            "accuracy_p": disagreement(*right) if known else None,
            "same_prediction": (mine["said_a"] == mine["said_b"]).fill_null(False).mean(),
            "looked_at": int(where.sum()),
            **({
                "score_a": contrast.one[0], "score_b": contrast.two[0], "difference": contrast.difference[0],
                "se": contrast.se[0], "p": contrast.p[0],
            } if contrast else {}),
        })  # fmt: skip
    frame = pl.DataFrame(rows, schema=CLASS).with_columns(pl.col(pl.Float64).fill_nan(None))
    return frame.with_columns(
        pl.Series(q, false_discovery(frame[p].fill_null(np.nan).to_numpy()), pl.Float64).fill_nan(None)
        for p, q in (("accuracy_p", "accuracy_q"), ("p", "q"))
    )
