"""What the evaluation's measures are called: in full above a table of their own, in short in a row among others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gigraph.evaluation.compared import MEASURES
from gigraph.evaluation.orders import title

RECONSTRUCTION = {
    "rel_l2": "Relative l2 error of held-out PFVs (Table 1; lower is better)",
    "l0_ratio": "l0 ratio, the share of zero coefficients (Table 1)",
    "nonzeros": "Non-zero coefficients per held-out PFV",
    "r2_1_terms": "R2 with the best single concept",
    "r2_8_terms": "R2 with 8 concepts (orthogonal matching pursuit)",
    "rel_l2_map": "Relative l2 error over all positions of held-out images",
    "unused_map": "Share of concepts that no position of the held-out images uses",
    "concepts": "Number of concepts",
}
PROBABILITY, VALUE = "probability", "value"
"""What the curves towards classes show: of a regression the value."""
_TO_CLASSES = {
    "c_deletion_probability_all": "C-Deletion, AUC of the probability over all concepts (Table 2; lower is better)",
    "c_insertion_probability_all": "C-Insertion, AUC of the probability over all concepts (Table 2; higher is better)",
    "c_difference_probability_all": "C-Insertion minus C-Deletion, over all concepts (Fig. 4)",
    "c_difference_probability_active": "C-Insertion minus C-Deletion, over the active concepts",
    "c_difference_accuracy_active": "C-Insertion minus C-Deletion of the accuracy, over the active concepts",
    "mu_fidelity": "C-muFidelity",
    "probability_at_concepts": "Probability of the class at X~",
}
STABILITY = {
    "stability": "Other seeds",
    "stability_over_concepts": "Half and twice as many concepts",
    "stability_over_pfvs": "Half as many PFVs per image",
    "stability_chance": "As many PFVs at random",
}
_TRUTH = {
    "average_precision": "Average precision of each part's best concept (projections), mean over parts",
    "average_precision_coefficients": "Average precision of the coefficient maps, mean over parts",
    "average_precision_families": "Average precision of the families' maps, mean over parts",
    "iou": "IoU of the coefficient maps, mean over parts",
    "iou_families": "IoU of the families' maps, mean over parts",
    "purity": "Purity of the 10 nearest patches",
    "redraw_rank_correlation": "Rank correlation of relevance per part with redrawing without it",
    "{part}_rank": "Rank of the first {part} concept toward {class} (–: there is none)",
    "{part}_concepts": "Number of {part} concepts (average precision at least 0.5)",
    "{part}_concepts_share": "Share of the positive relevance toward {class} that {part} concepts hold",
    "profile_likeness_vs_shared_parts": "Likeness of two classes' relevances against shared parts (rank correlation)",
    "profile_likeness_vs_confusion": "Likeness of two classes' relevances against the model's confusion of them",
}


def of_truth(shortcut: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of a drawn world's truth with their titles, by the ``part`` and ``class`` of its shortcut."""
    return {key.format_map(shortcut): words.format_map(shortcut) for key, words in _TRUTH.items()}


def shown(names: Iterable[str]) -> str:
    """Return what curves towards classes show, by the names of their outputs or of the metrics."""
    return VALUE if any(VALUE in name.split("_") for name in names) else PROBABILITY


def to_classes(metrics: Iterable[str]) -> dict[str, str]:
    """Return the metrics of the curves towards classes with their titles, by those that there are."""
    what = shown(metrics)
    return {key.replace(PROBABILITY, what): _of(words, what) for key, words in _TO_CLASSES.items()}


def _of(words: str, what: str) -> str:
    return words.replace(PROBABILITY, what).replace(PROBABILITY.capitalize(), what.capitalize())


def between_layers(own: str) -> dict[str, str]:
    """Return the metrics of the curves between layers with their titles, by the graph's attribution method."""
    return {
        "difference_projection": "Insertion minus deletion, AUC of the projection score (Fig. 5)",
        f"{own}_gain_projection": f"{title(own)}'s lead over each order, paired by image",
        f"{own}_gain_largest_projection": f"{title(own)}'s lead over each order, the projection maximised anew",
    }


_CURVES = {"deletion": "Deletion", "insertion": "Insertion", "difference": "Insertion minus deletion"}
_TO_CLASS = {"deletion": "C-Deletion", "insertion": "C-Insertion", "difference": "C-Insertion minus C-Deletion"}
_AGREEMENT = {
    "rank_correlation": "Rank correlation with ablation",
    "correlation": "Correlation with ablation",
    "same_sign": "Share with the sign of the ablation",
}
_EDGES = {"shown": "shown edges", "at_x": "shown edges at X", "others": "other edges", "all": "all edges"}


def short(topic: str, metric: str, own: str, shortcut: Mapping[str, Any] | None) -> str:
    """Return a title that stands by itself among those of other measures.

    Parameters
    ----------
    topic, metric : str
    own : str
        The graph's attribution method.
    shortcut : mapping or None
        The drawn world's.
    """
    anew = ", maximised anew" * ("_largest_" in metric)
    if found := re.fullmatch("c_(deletion|insertion|difference)_(.+)_(active|all)", metric):
        return f"{_TO_CLASS[found[1]]} of the {found[2]}, {found[3]} concepts"
    if found := re.fullmatch("(deletion|insertion|difference)_(largest_)?projection", metric):
        return f"{_CURVES[found[1]]} of the projection{anew}"
    if metric.startswith(f"{own}_gain_"):
        return f"{title(own)}'s lead in the projection{anew}"
    if found := re.fullmatch("(rank_correlation|correlation|same_sign)_(shown|at_x|others|all)", metric):
        return f"{_AGREEMENT[found[1]]}, {_EDGES[found[2]]}"
    if found := re.fullmatch("relevance_agreement_lambda_x_(.+)", metric):
        return f"Rank correlation of the relevances at lambda × {found[1]} with those at lambda"
    if found := re.fullmatch("(.+)_at_concepts", metric) if topic == "classes" else None:
        return f"{found[1].capitalize()} of the class at X~"
    if topic == "edges" and metric.startswith("share_"):
        return f"Share of the attributions: {metric.removeprefix('share_')}"
    if topic == "stability" and metric in STABILITY:
        return f"Stability under {STABILITY[metric][0].lower()}{STABILITY[metric][1:]}"
    if topic == "comparison":
        return MEASURES[metric][0]
    if shortcut and metric == f"{shortcut['part']}_share":
        return f"Share of the relevance on the {shortcut['part']}"
    known = {**RECONSTRUCTION, "mu_fidelity": _TO_CLASSES["mu_fidelity"], **(of_truth(shortcut) if shortcut else {})}
    return known.get(metric, metric.replace("_", " ").capitalize()).split(" (")[0]
