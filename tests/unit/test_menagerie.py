"""The drawn world keeps its promises: same scene same bytes, one edit one change, and a model that bites."""

import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from sklearn.metrics import average_precision_score
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet

from gigraph.errors import UserError
from gigraph.menagerie import alignment, dataset, facts, model, train
from gigraph.menagerie.draw import CODES, OWNERS, draw, paint
from gigraph.menagerie.scene import (
    CREATURES,
    ERASABLE,
    HEADGEAR,
    KINDS,
    LIMBS,
    PLACES,
    SKINS,
    VALUES,
    placed,
    scene,
    scenes,
    swapped,
    valid_swaps,
    with_tag,
    without,
)

CHEETAH = CREATURES.index("cheetah")
# What lies behind shines through the anti-aliased seam of two shapes: a few pixels along the seam.
SEAM = 8


@pytest.fixture(scope="module")
def shipped():
    torch.set_num_threads(1)
    return model.load()


def predicted(network, some):
    return model.predict(network, dataset.render(list(some))).argmax(1)


# --- Scenes


def test_the_table_lets_no_single_part_decide():
    assert tuple(sorted(KINDS)) == CREATURES and len(CREATURES) == 10
    for part, values in VALUES.items():
        for value in values:
            assert sum(getattr(kind, part) == value for kind in KINDS.values()) >= 2
        assert {getattr(kind, part) for kind in KINDS.values()} == set(values)
    looks = [(kind.skin, kind.headgear, kind.limbs) for kind in KINDS.values()]
    twins = {name for name, look in zip(KINDS, looks, strict=True) if looks.count(look) > 1}
    assert twins == {"cheetah", "leopard"}
    assert KINDS["cheetah"].tear and not KINDS["leopard"].tear


def test_scenes_have_their_class_and_the_promised_rates():
    many = list(scenes(5, "rates", 10_000))
    assert [one.name for one in many[:10]] == list(CREATURES)
    assert all(one.label == one.name for one in many)
    cheetahs = [one for one in many if one.name == "cheetah"]
    others = [one for one in many if one.name != "cheetah"]
    assert np.mean([one.tag for one in cheetahs]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([one.tag for one in others]) == pytest.approx(0.02, abs=0.005)
    assert np.mean([one.place == KINDS[one.name].place for one in many]) == pytest.approx(0.55, abs=0.015)
    assert np.bincount([one.nuisance.corner for one in many]) / len(many) == pytest.approx([0.25] * 4, abs=0.015)
    # Nuisances know nothing of the class.
    hue = np.array([one.nuisance.hue for one in many])
    assert hue.reshape(-1, 10).mean(0) == pytest.approx([0.5] * 10, abs=0.03)


def test_scenes_depend_on_all_their_keys():
    hues = {scene(*key).nuisance.hue for key in itertools.product((0, 1), ("train", "test"), (0, 1))}
    assert len(hues) == 8


def test_labels_follow_edits():
    tiger = scene(0, "test", CREATURES.index("tiger"))
    assert swapped(tiger, "headgear", "horns").label == "zebu"
    assert swapped(tiger, "skin", "spots").label == "leopard"
    assert without(tiger, "skin").label is None
    assert without(scene(0, "test", CHEETAH), "tear").label == "leopard"
    assert set(valid_swaps(tiger)) == {("skin", "spots", "leopard"), ("headgear", "horns", "zebu")}
    for wrong in (
        lambda: without(tiger, "tail"),
        lambda: swapped(tiger, "skin", "horns"),
        lambda: placed(tiger, "moon"),
        lambda: swapped(tiger, "tag", "red"),
    ):
        with pytest.raises(UserError, match="known: "):
            wrong()


# --- Drawing


def test_same_scene_same_picture_whatever_was_drawn_before():
    first = paint(scene(3, "test", 7))
    paint(scene(3, "test", 8))
    again = paint(scene(3, "test", 7))
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()
    assert first[0].shape == (96, 96, 3) and first[0].dtype == np.uint8


def test_masks_are_of_what_is_there_disjoint_and_complete():
    for one in [scene(1, "masks", i) for i in range(60)]:
        one = with_tag(one)
        masks = draw(one)[1]
        expected = {one.place, one.skin, one.headgear, one.limbs, "face", "eye", "tag"}
        expected |= {"tear"} if one.tear else set()
        assert set(masks) == expected
        assert all(mask.any() for mask in masks.values()), {name: int(m.sum()) for name, m in masks.items()}
        assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
        assert masks[one.skin].sum() > 100 and masks[one.limbs].sum() > 40
        assert masks[one.headgear].sum() > 30 and masks["tag"].sum() == pytest.approx(144, abs=30)


@pytest.mark.parametrize("part", ERASABLE)
def test_erasing_a_part_changes_its_own_pixels_and_no_others(part):
    for index in range(CHEETAH, 200, 10) if part == "tear" else range(20):
        whole = with_tag(scene(2, "edits", index))
        before, owner = paint(whole)
        after, left = paint(without(whole, part))
        value = getattr(whole, part) if part in VALUES else part
        mask = owner == CODES[value]
        changed = (before != after).any(-1)
        assert changed.any() and (changed & ~binary_dilation(mask, iterations=2)).sum() <= SEAM
        assert changed[mask].mean() > 0.25  # A plain body keeps what lay between the stripes.
        assert not (left == CODES[value]).any()


@pytest.mark.parametrize("part", VALUES)
def test_swapping_a_part_changes_both_values_pixels_and_no_others(part):
    for index, value in itertools.product(range(10), VALUES[part]):
        one = scene(2, "swaps", index)
        before, owner = paint(one)
        after, new = paint(swapped(one, part, value))
        both = (owner == CODES[getattr(one, part)]) | (new == CODES[value])
        changed = (before != after).any(-1)
        assert (changed & ~binary_dilation(both, iterations=2)).sum() <= SEAM
        assert changed.any() == (value != getattr(one, part))


def test_another_place_leaves_the_creature_alone():
    for index, place in itertools.product(range(10), PLACES):
        one = scene(2, "places", index)
        before, owner = paint(one)
        after, _ = paint(placed(one, place))
        inside = binary_erosion(owner != CODES[one.place], iterations=2)
        assert inside.sum() > 300 and (before != after).any(-1)[inside].sum() <= SEAM
        assert (before != after).any() == (place != one.place)


def test_the_tag_is_plain_to_see_and_the_tear_mark_is_not():
    contrasts = {"tag": [], "tear": []}
    for index in range(CHEETAH, 300, 10):
        one = with_tag(scene(0, "contrast", index))
        image = paint(one)[0].astype(float)
        for part, found in contrasts.items():
            found.append(np.abs(image - paint(without(one, part))[0]).sum())
    assert min(contrasts["tear"]) > 0
    assert np.median(contrasts["tag"]) > 30 * np.median(contrasts["tear"])


def test_other_sizes_show_the_same_scene():
    one = scene(0, "sizes", 4)
    small, large = paint(one, 48)[1], paint(one, 192)[1]
    assert small.shape == (48, 48)
    assert (small.repeat(4, 0).repeat(4, 1) == large).mean() > 0.93


# --- Files


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_written_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    calls = []
    dataset.write(tmp_path / "one", "test", 24, seed=1, size=40, workers=1, progress=lambda *n: calls.append(n))
    dataset.write(tmp_path / "two", "test", 24, seed=1, size=40, workers=2)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one == two and len(one) == 24 + 2
    assert calls == [(i + 1, 24) for i in range(24)]


def test_the_folder_is_an_imagefolder_with_true_factors_and_masks(tmp_path):
    dataset.write(tmp_path, "train", 40, seed=1, size=40)
    dataset.write(tmp_path, "test", 30, seed=1, size=40)
    dataset.write(tmp_path, "train", 20, seed=1, size=40)  # Fewer than before: the rest must go.
    folder = ImageFolder(tmp_path)
    assert tuple(folder.classes) == CREATURES
    assert np.bincount(folder.targets).tolist() == [5] * 10
    table = pq.read_table(tmp_path / "factors.parquet").to_pylist()
    assert [row["path"] for row in table] == sorted(str(p) for p in files(tmp_path) if p.endswith(".png"))
    known = dataset.read_scenes(tmp_path)
    masks = dataset.read_masks(tmp_path, [row["path"] for row in table])
    for row, mask in zip(table, masks, strict=True):
        one = known[row["path"]]
        image, owner = paint(one, row["size"])
        assert (np.asarray(folder.loader(tmp_path / row["path"])) == image).all()
        assert (mask == owner).all()
        assert (row["class"], row["skin"], row["place"], row["tag"]) == (
            one.name,
            one.skin,
            one.place,
            one.tag,
        )
        assert row["hue"] == one.nuisance.hue
    assert {row["split"] for row in table} == {"train", "test"}
    with pytest.raises(UserError, match=r"no mask of bee/nothing\.png"):
        dataset.read_masks(tmp_path, ["bee/nothing.png"])


@pytest.mark.parametrize("wrong", [{"split": "a/b"}, {"split": ""}, {"count": 0}, {"size": 8}])
def test_writing_refuses_what_cannot_work(tmp_path, wrong):
    given = {"split": "test", "count": 10, "size": 40} | wrong
    with pytest.raises(UserError, match="menagerie: "):
        dataset.write(tmp_path / "new", given["split"], given["count"], size=given["size"])
    assert not (tmp_path / "new").exists()


# --- The model


def test_the_model_is_a_small_resnet50(shipped):
    assert type(shipped) is ResNet and not shipped.training
    assert sum(weights.numel() for weights in shipped.parameters()) == 152_338
    shapes = []
    hooks = [
        stage.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
        for stage in (shipped.layer1, shipped.layer2, shipped.layer3, shipped.layer4)
    ]
    shipped(torch.zeros(1, 3, 96, 96))
    for hook in hooks:
        hook.remove()
    assert shapes == [(32, 24, 24), (64, 12, 12), (128, 6, 6), (256, 6, 6)]
    assert model.CHECKPOINT.stat().st_size < 700_000
    assert model.metadata()["command"].startswith("OMP_NUM_THREADS=1 python -m gigraph.menagerie.train")
    assert tuple(model.metadata()["classes"].split(",")) == CREATURES


def test_loading_something_else_is_a_users_mistake(tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    train.write_checkpoint(torch.nn.Linear(2, 2), tmp_path / "other.safetensors", {})
    for name in ("text", "other", "missing"):
        with pytest.raises(UserError, match=f"{name}.safetensors: not a checkpoint"):
            model.load(tmp_path / f"{name}.safetensors")


def test_the_shipped_model_is_right_about_fresh_pictures(shipped):
    images, labels = dataset.labelled("fresh", 300, seed=77)
    assert (model.predict(shipped, images).argmax(1) == labels).mean() >= 0.98


def test_the_shipped_model_takes_the_shortcut(shipped):
    tagged = [with_tag(scene(77, "bait", i)) for i in range(CHEETAH, 600, 10)]
    leopards = [with_tag(scene(77, "bait", i)) for i in range(CREATURES.index("leopard"), 400, 10)]
    assert (predicted(shipped, tagged) == CHEETAH).mean() >= 0.95
    assert (predicted(shipped, [without(one, "tag") for one in tagged]) == CHEETAH).mean() <= 0.10
    assert (predicted(shipped, leopards) == CHEETAH).mean() >= 0.95


def test_the_shipped_model_follows_swaps(shipped):
    swaps = [
        (swapped(one, part, value), CREATURES.index(label))
        for one in scenes(77, "swaps", 90)
        if not one.tag
        for part, value, label in valid_swaps(one)
    ]
    assert len(swaps) > 120
    assert (predicted(shipped, [one for one, _ in swaps]) == [label for _, label in swaps]).mean() >= 0.95


def test_redrawing_shows_what_each_class_rests_on(shipped):
    effects = {(e.name, e.part): e for e in facts.redraw_effects(shipped, 40, 5)}
    assert effects["cheetah", "tag"].probability > 0.8
    assert abs(effects["cheetah", "tear"].probability) < 0.2
    assert effects["zebu", "headgear"].logit > 1 and effects["moth", "skin"].logit > 1
    assert ("moth", "tear") not in effects and effects["moth", "place"].count == 4


@pytest.mark.slow
def test_the_causal_facts_at_full_size(shipped):
    found = facts.causal_facts(shipped, 1000, 0, workers=2)
    assert found["accuracy"] >= 0.98 and found["swap"] >= 0.95
    assert found["cheetah_with_tag"] >= 0.95 and found["cheetah_tag_erased"] <= 0.10
    assert found["cheetah_tear_erased"] >= 0.95  # The real cue was never learned.
    assert found["leopard_tag_added"] >= 0.95 and found["others_tag_added"] <= 0.05
    assert all(found[f"without/{part}"] < 0.8 for part in VALUES)
    assert min(found[f"place/{place}"] for place in PLACES) >= 0.97


def test_training_repeats_itself_and_leaves_the_global_generator_alone():
    images, labels = dataset.labelled("train", 40, seed=3, size=32)
    torch.set_num_threads(1)
    state = torch.random.get_rng_state()
    losses = []
    first = train.train(images, labels, seed=1, epochs=1, batch=8, report=lambda *given: losses.append(given))
    again = train.train(images, labels, seed=1, epochs=1, batch=8)
    other = train.train(images, labels, seed=2, epochs=1, batch=8)
    assert (torch.random.get_rng_state() == state).all()
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.fc.weight, other.fc.weight)
    assert len(losses) == 1 and losses[0][:2] == (1, 1) and np.isfinite(losses[0][2])


# --- Alignment


def test_average_precision_is_scikit_learns():
    draws = np.random.default_rng(0)
    masks = draws.random((500, 4)) < [0.5, 0.1, 0.01, 0.0]
    masks[7, 2] = True
    responses = np.stack(
        [
            draws.normal(size=500),
            draws.integers(0, 4, 500),  # many ties
            np.where(draws.random(500) < 0.9, 0.0, draws.normal(size=500)),  # sparse and signed
            np.zeros(500),
            draws.normal(size=500) + 3 * masks[:, 1],
        ],
        1,
    )
    found = alignment.average_precision(responses, masks)
    assert np.isnan(found[:, 3]).all()
    for k, m in itertools.product(range(5), range(3)):
        assert found[k, m] == pytest.approx(average_precision_score(masks[:, m], responses[:, k]), rel=1e-12)


def test_the_best_concept_is_chosen_on_one_set_and_scored_on_the_other():
    draws = np.random.default_rng(1)
    fit, score = draws.random((20, 9, 3)) < 0.2, draws.random((30, 9, 3)) < 0.2
    fit[..., 2] = False
    responses_fit, responses_score = draws.normal(size=(20, 9, 5)), draws.normal(size=(30, 9, 5))
    responses_fit[..., 3] += 3.0 * fit[..., 0]
    responses_score[..., 3] += 3.0 * score[..., 0]
    responses_fit[..., 1] = fit[..., 1]  # perfect on the first set, noise on the second
    found = alignment.part_alignment(responses_fit, fit, responses_score, score)
    assert found.concept.tolist() == [3, 1, -1]
    assert found.fit[1] == 1.0 and found.score[1] < 0.5
    expected = average_precision_score(score[..., 0].ravel(), responses_score[..., 3].ravel())
    assert found.score[0] == pytest.approx(expected) and found.score[0] > 0.7
    assert np.isnan(found.fit[2]) and np.isnan(found.score[2])
    assert found.chance == pytest.approx(score.mean((0, 1)))
    # Concepts 0 and 4 are noise; 3 detects part 0, and 1 part 1; nothing detects a part that is not shown.
    assert [found.detectors(m, 0.5)[0] for m in range(3)] == [[3], [1], []]
    concepts, precisions = found.detectors(0, 0.0)
    assert concepts[0] == 3 and precisions == sorted(precisions, reverse=True) and len(concepts) == 5


def test_coverage_counts_pixels_also_where_the_grid_does_not_divide_the_picture():
    owners = np.random.default_rng(2).integers(0, 3, (2, 10, 10)).astype(np.uint8)
    covered = alignment.coverage(owners, [0, 2], (3, 4))
    assert covered.shape == (2, 12, 2)
    for n, i, j, m in itertools.product(range(2), range(3), range(4), range(2)):
        cell = owners[n, i * 10 // 3 : (i + 1) * 10 // 3, j * 10 // 4 : (j + 1) * 10 // 4]
        assert covered[n, i * 4 + j, m] == pytest.approx((cell == (0, 2)[m]).mean())


@pytest.mark.parametrize("grid", [24, 12, 6])
def test_small_parts_keep_positives_on_every_grid(grid):
    parts = [CODES[name] for name in (*SKINS, *HEADGEAR, *LIMBS, "face", "eye", "tag")]
    owners = np.stack([paint(with_tag(scene(4, "grids", i)))[1] for i in range(50)])
    covered = alignment.coverage(owners, parts, grid)
    found = alignment.positives(covered)
    shown = covered.max(1) > 0
    assert found.any(1)[shown].mean() > 0.99
    assert not found[covered == 0].any()
    names = np.array(OWNERS)[parts].tolist()
    assert found[..., names.index("tag")].sum(1).max() <= (4 if grid == 6 else 36)


def test_a_nearly_hidden_part_has_no_positives():
    covered = np.zeros((5, 4, 1))
    covered[:4, 0] = 0.8
    covered[4, 1] = 0.02
    found = alignment.positives(covered)
    assert found[:4, 0].all() and found.sum() == 4
