"""The schema of every table, by its kind."""

from __future__ import annotations

import pyarrow as pa

_IMAGE = [("image_id", pa.int64())]
_POSITION = [*_IMAGE, ("y", pa.int32()), ("x", pa.int32())]

SCHEMAS: dict[str, pa.Schema] = {
    # one row per image, split by shard; path: relative to the image folder; label: number of the class among the
    # model's outputs; class: its name
    "manifest": pa.schema(
        [
            *_IMAGE,
            ("path", pa.string()),
            ("label", pa.int32()),
            ("class", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
        ]
    ),
    # files that are left out; reason: why
    "rejected": pa.schema([("path", pa.string()), ("reason", pa.string())]),
    # what was compiled; how long it took is no result, and stands in the log
    "kernels": pa.schema([("kernel", pa.string())]),
    # the images that are attributed
    "selection": pa.schema([*_IMAGE, ("path", pa.string()), ("label", pa.int32()), ("shard", pa.int32())]),
    # probability: null of a regression, whose output is the value, null of all others
    "predictions": pa.schema(
        [
            *_IMAGE,
            ("predicted", pa.int32()),
            ("probability", pa.float32()),
            ("value", pa.float32()),
        ]
    ),
    # every image with what the model says of it; predicted: the likeliest class; probability, value: as in predictions
    "images": pa.schema(
        [
            *_IMAGE,
            ("path", pa.string()),
            ("label", pa.int32()),
            ("class", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("predicted", pa.int32()),
            ("probability", pa.float32()),
            ("value", pa.float32()),
        ]
    ),
    # task: of the model, how its outputs are read (`gigraph.method.tasks`)
    "classes": pa.schema([("label", pa.int32()), ("class", pa.string()), ("task", pa.string())]),
    # node: the layer's cut point in the fx graph; layout: map (channels first), map_last, tokens or vector; height: of
    # its map; width: of its map; grid: of the image's own positions height and width, and how many others, such as a
    # class token, come before them; beta: the batch norms' net shift (Eq. 8), null where the layer has none
    "layers": pa.schema(
        [
            ("layer", pa.string()),
            ("node", pa.string()),
            ("layout", pa.string()),
            ("channels", pa.int32()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("grid", pa.list_(pa.int32())),
            ("beta", pa.list_(pa.float32())),
        ]
    ),
    # beside an explained image: the grids of its layers, as in layers
    "grids": pa.schema([("layer", pa.string()), ("grid", pa.list_(pa.int32()))]),
    # distance: of beta from the PFVs' mean, over their spread; mean_cosine: of two PFVs, measured from beta
    "centre": pa.schema(
        [
            ("layer", pa.string()),
            ("center", pa.string()),
            ("beta", pa.list_(pa.float32())),
            ("distance", pa.float32()),
            ("mean_cosine", pa.float32()),
        ]
    ),
    # contribution: R of the position [Eq. 10]; fallback: drawn uniformly, as none was positive; residual: what the
    # contributions of all the layer's positions miss of the image's logit, the biases' share;
    # pfv: FixedSizeList<float32>[C], see `pfv_schema`
    "pfvs": pa.schema(
        [*_POSITION, ("contribution", pa.float32()), ("residual", pa.float32()), ("fallback", pa.bool_())]
    ),
    # PFVs at positions drawn uniformly from some images; pfv as above
    "uniform": pa.schema([*_POSITION]),
    # size: its PFVs; cohesion: their mean cosine to their centroid; node: its leaf in the split tree; images: of which
    # the concept's PFVs are, null where PFVs are members of several concepts
    "concepts": pa.schema(
        [
            ("concept", pa.int32()),
            ("size", pa.int32()),
            ("images", pa.int32()),
            ("cohesion", pa.float32()),
            ("node", pa.int32()),
        ]
    ),
    # the split tree (concept hierarchy): concept is null on inner nodes, parent is null on the root
    "tree": pa.schema([("node", pa.int32()), ("parent", pa.int32()), ("size", pa.int32()), ("concept", pa.int32())]),
    # family: id of the concept that leads it; cosine: of the concept to the family's direction; weight: what a
    # coefficient of the concept is in the family's map; members, inner_cosine, least_cosine: of the concept's family
    "families": pa.schema(
        [
            ("concept", pa.int32()),
            ("family", pa.int32()),
            ("cosine", pa.float32()),
            ("weight", pa.float32()),
            ("members", pa.int32()),
            ("inner_cosine", pa.float32()),
            ("least_cosine", pa.float32()),
        ]
    ),
    # what numbers of non-zeros a PFV keep of the decisions about some images: of the centred logit, of the predictions
    "trials": pa.schema(
        [
            ("layer", pa.string()),
            ("asked", pa.int32()),
            ("nonzeros", pa.float64()),
            ("rel_l2", pa.float64()),
            ("images", pa.int64()),
            ("logit", pa.float64()),
            ("logit_se", pa.float64()),
            ("agreement", pa.float64()),
            ("agreement_se", pa.float64()),
            ("probability", pa.float64()),
            ("probability_at_concepts", pa.float64()),
            ("probability_at_baseline", pa.float64()),
        ]
    ),
    # penalty and value: an absolute or relative lambda; nonzeros, a pursuit's number of concepts; or encoder
    "calibration": pa.schema(
        [
            ("layer", pa.string()),
            ("method", pa.string()),
            ("sign", pa.string()),
            ("penalty", pa.string()),
            ("value", pa.float64()),
            ("nonzeros", pa.float64()),
            ("rel_l2", pa.float64()),
        ]
    ),
    # concepts, values: the coefficients that are not 0; rel_l2: |x - x~| over |x|, measured from beta; gap: the lasso's
    # relative duality gap, NaN without a lasso; stationarity: of a refit and a pursuit, how far the
    # residual is from orthogonal to the concepts used, NaN without least squares
    "coefficients": pa.schema(
        [
            *_POSITION,
            ("concepts", pa.list_(pa.int32())),
            ("values", pa.list_(pa.float32())),
            ("rel_l2", pa.float32()),
            ("gap", pa.float32()),
            ("stationarity", pa.float32()),
        ]
    ),
    # One row per image and target. label: the image's class; target: a family, or of the pairs to classes a class;
    # sources: families; values: what each does for the target; remainder: the sum of what the sources do that were not
    # kept; at_x: S(X); at_concepts: S(X~); at_baseline: S(baseline); error: the error node's, at_x - at_concepts;
    # completeness_error: the sum over concepts - (S(X~) - S(baseline)), where errors of either sign cancel;
    # quadrature_error: the estimated error of each source's integral, summed over the sources; null for a method
    # without an integral; total_absolute: the sum of the sources' sizes; steps: points of the path; deviation:
    # relative, of bfloat16's from float32's, null where it was not measured; members: of the sources that have several;
    # member_values: what each of them does
    "attributions": pa.schema(
        [
            *_IMAGE,
            ("label", pa.int32()),
            ("target", pa.int32()),
            ("sources", pa.list_(pa.int32())),
            ("values", pa.list_(pa.float32())),
            ("remainder", pa.float32()),
            ("error", pa.float32()),
            ("at_x", pa.float32()),
            ("at_concepts", pa.float32()),
            ("at_baseline", pa.float32()),
            ("completeness_error", pa.float32()),
            ("quadrature_error", pa.float32()),
            ("total_absolute", pa.float32()),
            ("steps", pa.int32()),
            ("deviation", pa.float32()),
            ("members", pa.list_(pa.int32())),
            ("member_values", pa.list_(pa.float32())),
        ]
    ),
    # what the network says at X, at X~ (_at_concepts) and without any concept (_at_baseline): the predicted class (of
    # labels the likeliest at X, k, or -1 - k where that is off), and of the one predicted at X its probability and its
    # centred logit
    "decisions": pa.schema(
        [
            *_IMAGE,
            ("label", pa.int32()),
            *(
                (key + end, kind)
                for key, kind in (("predicted", pa.int32()), ("probability", pa.float32()), ("logit", pa.float32()))
                for end in ("", "_at_concepts", "_at_baseline")
            ),
        ]
    ),
    # kept concepts of a class, by mean relevance; scope: a class label, or -1 for the whole dataset; rank: from 0;
    # concept: a family; relevance: mean over the class's images [Eq. 7]; se: its standard error, null where there is
    # one image only, here and below; support: images in which it is not 0
    "kept": pa.schema(
        [
            ("scope", pa.int32()),
            ("layer", pa.string()),
            ("rank", pa.int32()),
            ("concept", pa.int32()),
            ("relevance", pa.float32()),
            ("se", pa.float32()),
            ("support", pa.int32()),
        ]
    ),
    # scope: as in kept; source: a family, -1 of the error node, -2 of all sources that were not kept; target: a family,
    # or of the target layer classes a class label; mean: attribution over the scope's images; se: its standard error;
    # support: images in which it is not 0; evaluated: images in which the target was attributed; images: of the scope;
    # weight: |mean| over the largest of the scope and layer pair (App. A); shown: whether the class keeps both ends;
    # ablation: the drop of the target when the source is deleted from X~, NaN where it was not measured; ablation_se:
    # its standard error
    "edges": pa.schema(
        [
            ("scope", pa.int32()),
            ("source_layer", pa.string()),
            ("source", pa.int32()),
            ("target_layer", pa.string()),
            ("target", pa.int32()),
            ("mean", pa.float32()),
            ("se", pa.float32()),
            ("support", pa.int32()),
            ("evaluated", pa.int32()),
            ("images", pa.int32()),
            ("weight", pa.float32()),
            ("shown", pa.bool_()),
            ("ablation", pa.float32()),
            ("ablation_se", pa.float32()),
        ]
    ),
    # what the members of families do: the parts of the edges shown, and of all to the class over whose images they are
    "members": pa.schema(
        [
            ("scope", pa.int32()),
            ("source_layer", pa.string()),
            ("family", pa.int32()),
            ("source", pa.int32()),
            ("target_layer", pa.string()),
            ("target", pa.int32()),
            ("mean", pa.float32()),
            ("se", pa.float32()),
            ("support", pa.int32()),
            ("images", pa.int32()),
        ]
    ),
    # kind: concept, error or class; size: a concept's PFVs, a class's images; relevance: mean over all images to their
    # own class, null of those that are not kept for the whole dataset; classes: that keep it; shown: whether it is in a
    # class's graph; family: the node that shows a concept; members: of its family; inner_cosine: their mean cosine
    "nodes": pa.schema(
        [
            ("layer", pa.string()),
            ("concept", pa.int32()),
            ("kind", pa.string()),
            ("name", pa.string()),
            ("size", pa.int32()),
            ("cohesion", pa.float32()),
            ("relevance", pa.float32()),
            ("classes", pa.int32()),
            ("shown", pa.bool_()),
            ("family", pa.int32()),
            ("members", pa.int32()),
            ("inner_cosine", pa.float32()),
        ]
    ),
    # per class, source and target, over the class's images: the drop of S_t when family `source` is deleted from X~
    "ablation": pa.schema(
        [
            ("scope", pa.int32()),
            ("source", pa.int32()),
            ("target", pa.int32()),
            ("ablation", pa.float32()),
            ("se", pa.float32()),
            ("images", pa.int32()),
        ]
    ),
    # The smallest circuit of a class that keeps the wanted share, by an order: an attribution method, "random" (of
    # several), or "pruned" by the greedy search; of "network" all, of "layer" all of one layer, the others unreplaced.
    # size: of nodes, concepts: that these stand for; null where no circuit keeps as much. score: the class's mean
    # probability (of a regression its value), margin: its logit minus the runner-up's, elsewhere: the score over images
    # of other classes; rest_: the same of all other nodes; cpr, cmd: areas of the order's curve, margin_: by margin;
    # tried: circuits of the greedy search, minimal: whether no single node can go
    "circuits": pa.schema(
        [
            ("scope", pa.int32()),
            ("order", pa.string()),
            ("layer", pa.string()),
            ("images", pa.int32()),
            ("others", pa.int32()),
            ("deleted", pa.string()),
            ("errors", pa.string()),
            ("nodes", pa.int32()),
            *(
                (name, pa.float32())
                for name in (
                    "size",
                    "concepts",
                    "score",
                    "score_se",
                    "margin",
                    "margin_se",
                    "elsewhere",
                    "rest_score",
                    "rest_margin",
                    "rest_elsewhere",
                    "cpr",
                    "cmd",
                    "margin_cpr",
                    "margin_cmd",
                )
            ),
            ("tried", pa.int32()),
            ("minimal", pa.bool_()),
        ]
    ),
    # circuits by their size, along each order; faithfulness: by the score, see `gigraph.method.circuit`
    "circuit_curves": pa.schema(
        [
            ("scope", pa.int32()),
            ("order", pa.string()),
            *(
                (name, pa.float32())
                for name in ("size", "concepts", "score", "score_se", "margin", "margin_se", "faithfulness")
            ),
        ]
    ),
    # every node of a class in the order of its relevance, from 0, and whether it is in the smallest circuit
    "circuit_members": pa.schema(
        [
            ("scope", pa.int32()),
            ("layer", pa.string()),
            ("concept", pa.int32()),
            ("rank", pa.int32()),
            ("relevance", pa.float32()),
            ("smallest", pa.bool_()),
        ]
    ),
    # by: what ranks the PFVs, the concept's response there, or its relevance there to the image's class (of the images
    # that it is most relevant to, by the path's first few steps), and its value;
    # box: in original pixels, the patch that the tile shows; sheet and row say where the tile lies
    "exemplars": pa.schema(
        [
            ("concept", pa.int32()),
            ("rank", pa.int32()),
            *_POSITION,
            ("by", pa.string()),
            ("value", pa.float32()),
            ("cosine", pa.float32()),
            ("label", pa.int32()),
            ("path", pa.string()),
            ("box", pa.list_(pa.int32(), 4)),
            ("sheet", pa.string()),
            ("row", pa.int32()),
            ("column", pa.int32()),
        ]
    ),
    # map: the concept's coefficients at the layer's positions in the image; of a family those of its members by weight;
    # or its responses there, by `exemplars.maps`
    "localisation": pa.schema(
        [
            ("scope", pa.int32()),
            ("concept", pa.int32()),
            ("rank", pa.int32()),
            *_IMAGE,
            ("path", pa.string()),
            ("coefficient", pa.float32()),
            ("relevance", pa.float32()),
            ("map", pa.list_(pa.float32())),
        ]
    ),
    # twins: concepts with another within a cosine of 0.9; from `images` on what is kept of the decisions: of the
    # centred logit, of the predictions, and the mean probability of the predicted class
    "reconstruction": pa.schema(
        [
            ("layer", pa.string()),
            ("rel_l2", pa.float32()),
            ("l0_ratio", pa.float32()),
            ("nonzeros", pa.float32()),
            ("gap", pa.float32()),
            ("stationarity", pa.float32()),
            ("pfvs", pa.int64()),
            ("concepts", pa.int64()),
            ("twins", pa.int64()),
            ("mean_cosine", pa.float32()),
            ("center", pa.string()),
            ("images", pa.int64()),
            ("logit", pa.float32()),
            ("logit_se", pa.float32()),
            ("agreement", pa.float32()),
            ("agreement_se", pa.float32()),
            ("probability", pa.float32()),
            ("probability_at_concepts", pa.float32()),
            ("probability_at_baseline", pa.float32()),
            # the same of the images that no concept was found on
            ("unseen_images", pa.int64()),
            ("unseen_logit", pa.float32()),
            ("unseen_logit_se", pa.float32()),
            ("unseen_agreement", pa.float32()),
            ("unseen_agreement_se", pa.float32()),
        ]
    ),
    # vectors: the method's name, what stands beside it, or "families", whose ids are their leaders';
    # best: the concept of highest average precision on scenes that choose, scored on others; detectors: all concepts
    # that detect the part there, best first, with their precisions
    "alignment": pa.schema(
        [
            ("layer", pa.string()),
            ("vectors", pa.string()),
            ("part", pa.string()),
            ("best", pa.int32()),
            ("average_precision", pa.float32()),
            ("prevalence", pa.float32()),
            ("detectors", pa.list_(pa.int32())),
            ("precisions", pa.list_(pa.float32())),
        ]
    ),
    # ---- evaluation: long tables, one number a row; "" where a column does not apply -------------------------
    # metric, value, se (standard error over n images, or NaN), for a method, a layer, a target layer or `classes`,
    # an order of the concepts (an attribution method, ablation, random), a part of the drawn world
    "measures": pa.schema(
        [
            ("method", pa.string()),
            ("layer", pa.string()),
            ("target", pa.string()),
            ("order", pa.string()),
            ("part", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("se", pa.float64()),
            ("n", pa.int64()),
            ("values", pa.list_(pa.float32())),
        ]
    ),
    # what extractors are compared on; role: centre, found (what concepts are found on), uniform; shown: which parts of
    # a drawn world the position shows; factor: what is changed of the base, empty where nothing is; all with pfv
    "probes": pa.schema([("role", pa.string()), ("image_id", pa.int64()), ("position", pa.int32())]),
    "maps": pa.schema([("image", pa.int32()), ("label", pa.int32()), ("shown", pa.list_(pa.bool_()))]),
    "pairs": pa.schema([("base", pa.int32()), ("factor", pa.string())]),
    # network: trained or shuffled; concepts: how many were asked for; seed: which redraw; reading: cosine, projection,
    # filter, or the coder of the coefficients; values: what the mean is of, of parts, factors and images in an order
    # that does not depend on the method
    "comparison": pa.schema(
        [
            ("method", pa.string()),
            ("layer", pa.string()),
            ("network", pa.string()),
            ("concepts", pa.int32()),
            ("seed", pa.int32()),
            ("reading", pa.string()),
            ("part", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("se", pa.float64()),
            ("n", pa.int64()),
            ("values", pa.list_(pa.float32())),
        ]
    ),
    # auc: probability that a measure of a topic rates the trained network above the shuffled one, of n values of either
    # at least (`gigraph.evaluation.sanity`), null where one of them has none; of a measure with one number in a layer
    # the share of the layers, with layer and target empty; trained, shuffled: means. Topic network: how many different
    # outputs either has for n images
    "sanity": pa.schema(
        [
            ("topic", pa.string()),
            ("method", pa.string()),
            ("layer", pa.string()),
            ("target", pa.string()),
            ("order", pa.string()),
            ("metric", pa.string()),
            ("reading", pa.string()),
            ("auc", pa.float64()),
            ("n", pa.int64()),
            ("trained", pa.float64()),
            ("shuffled", pa.float64()),
        ]
    ),
    # x: share of the concepts deleted or inserted, of all or of the active ones (axis); value: mean over n images
    "curves": pa.schema(
        [
            ("method", pa.string()),
            ("layer", pa.string()),
            ("target", pa.string()),
            ("order", pa.string()),
            ("metric", pa.string()),
            ("output", pa.string()),
            ("axis", pa.string()),
            ("x", pa.float64()),
            ("value", pa.float64()),
            ("se", pa.float64()),
            ("n", pa.int64()),
        ]
    ),
    # one row per concept: mean cosine of its best match when concepts are found again with other seeds, with
    # other K, with fewer PFVs per image (NaN where there is one); chance: the same among as many PFVs at random
    "stability": pa.schema(
        [
            ("layer", pa.string()),
            ("concept", pa.int32()),
            ("stability", pa.float32()),
            ("over_concepts", pa.float32()),
            ("over_pfvs", pa.float32()),
            ("chance", pa.float32()),
        ]
    ),
    # edges with their mean attribution and the exact effect of deleting the source from X~: all shown ones, which have
    # that of deleting it from X too, and a sample of others
    "checks": pa.schema(
        [
            ("scope", pa.int32()),
            ("source_layer", pa.string()),
            ("source", pa.int32()),
            ("target_layer", pa.string()),
            ("target", pa.int32()),
            ("shown", pa.bool_()),
            ("mean", pa.float32()),
            ("ablation", pa.float32()),
            ("ablation_at_x", pa.float32()),
        ]
    ),
    # an extractor's own encoder, ReLU(weights (x - beta) + bias), and last, without a concept, the offset of its centre
    # from beta; no rows where there is none; activation and level: `gigraph.method.encoder.Encoder`
    "encoder": pa.schema(
        [("concept", pa.int32()), ("bias", pa.float32()), ("activation", pa.string()), ("level", pa.float64())]
    ),
    # the exact effect of redrawing a scene without a part, mean over the class's scenes that show it
    "effects": pa.schema(
        [
            ("class", pa.string()),
            ("part", pa.string()),
            ("count", pa.int32()),
            ("probability", pa.float64()),
            ("logit", pa.float64()),
        ]
    ),
    # ---- beside a run: what an edit of the model does to each class ------------------------------------------
    # images: which of the report's; gained, lost: images recognised only after, only before; low, high: of the change
    # of accuracy, 95%; random_*: its mean, least and most over random edits, null without; circuit_*: what the class's
    # smallest circuit says alone, on the images that it was found on, whichever the row is of; null without
    "edited": pa.schema(
        [
            ("images", pa.string()),
            ("class", pa.string()),
            ("label", pa.int32()),
            ("count", pa.int64()),
            ("accuracy_before", pa.float64()),
            ("accuracy_after", pa.float64()),
            ("gained", pa.int64()),
            ("lost", pa.int64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("predictions_changed", pa.float64()),
            ("probability_before", pa.float64()),
            ("probability_after", pa.float64()),
            ("random_mean", pa.float64()),
            ("random_least", pa.float64()),
            ("random_most", pa.float64()),
            ("circuit_before", pa.float64()),
            ("circuit_after", pa.float64()),
        ]
    ),
}


def pfv_schema(kind: str, column: str, channels: int) -> pa.Schema:
    """Return the schema of `kind` with a FixedSizeList<float32>[channels] column appended."""
    return SCHEMAS[kind].append(pa.field(column, pa.list_(pa.float32(), channels)))
