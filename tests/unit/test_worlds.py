"""The drawn worlds keep their promises: same scene same bytes, one edit one change, and models that bite."""

import functools
import itertools
import json
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from sklearn.metrics import average_precision_score
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet

from gigraph.errors import UserError
from gigraph.worlds import alignment, dataset, facts, model, registry, train

MENAGERIE = registry.get("menagerie")
# What lies behind shines through the anti-aliased seam of two shapes: a few pixels along the seam.
SEAM = 8


@pytest.fixture(params=registry.NAMES)
def world(request):
    return registry.get(request.param)


@functools.cache
def shipped(world):
    torch.set_num_threads(1)
    return model.load(world.checkpoint)


def predicted(world, some):
    return model.predict(shipped(world), dataset.render(world, list(some))).argmax(1)


def of_class(world, name, split, seed, stop):
    """Return the scenes of a class among the first `stop` of a split."""
    return [world.scene(seed, split, i) for i in range(world.number(name), stop, len(world.classes))]


# --- Scenes


def test_the_table_lets_no_single_part_decide(world):
    assert tuple(sorted(world.classes)) == world.classes and len(world.classes) == 10
    looks = [look.values for look in world.looks.values()]
    for number, values in enumerate(world.values.values()):
        shown = [look[number] for look in looks]
        assert {*shown} == {*values} and all(shown.count(value) >= 2 for value in values)
    twins = {name for name, look in world.looks.items() if looks.count(look.values) > 1}
    planted, mimic = world.shortcut.planted, world.shortcut.mimic
    assert twins == {planted, mimic} and {name for name, look in world.looks.items() if look.cue} == {planted}
    assert {look.place for look in world.looks.values()} == {*world.places}
    assert len({*world.owners}) == len(world.owners) and {*world.all_parts} < {*world.owners}
    assert {*world.owners} - {*world.all_parts} == {*world.places, world.cue}
    assert len({*world.erasable, *world.values}) == len(world.erasable)


def test_scenes_have_their_class_and_the_promised_rates(world):
    many = list(world.scenes(5, "rates", 10_000))
    assert [one.name for one in many[:10]] == list(world.classes)
    assert all(world.label(one) == one.name for one in many)
    planted = np.array([one.name == world.shortcut.planted for one in many])
    has = np.array([world.has(one, world.shortcut.part) for one in many])
    assert has[planted].mean() == pytest.approx(world.shortcut.rate, abs=0.02) and world.shortcut.rate == 0.95
    assert has[~planted].mean() == pytest.approx(world.shortcut.elsewhere, abs=0.005)
    own = [one.place == world.looks[one.name].place for one in many]
    assert np.mean(own) == pytest.approx(world.preferred, abs=0.015)
    # Nuisances know nothing of the class.
    hue = np.array([one.nuisance.hue for one in many])
    assert hue.reshape(-1, 10).mean(0) == pytest.approx([0.5] * 10, abs=0.03)


def test_another_share_of_the_shortcut_changes_nothing_else(world):
    part, twin = world.shortcut.part, world.shortcut.planted
    usual, rare, never = (list(world.scenes(3, "train", 600, rate)) for rate in (None, 0.02, 0.0))
    assert usual == list(world.scenes(3, "train", 600, world.shortcut.rate))
    for one, other in zip(usual, rare, strict=True):
        assert one == other or (one.name == twin and world.without(one, part) == other)
    assert sum(world.has(one, part) for one in usual if one.name == twin) > 50
    assert sum(world.has(one, part) for one in rare if one.name == twin) < 5
    assert not any(world.has(one, part) for one in never if one.name == twin)
    images, labels = dataset.labelled(world, "train", 20, seed=3, size=32, rate=0.0)
    assert (
        np.array_equal(images, dataset.render(world, never[:20], size=32))
        and (labels == world.numbers(never[:20])).all()
    )


def test_the_tag_is_in_any_corner():
    corners = [one.nuisance.corner for one in MENAGERIE.scenes(5, "rates", 10_000)]
    assert np.bincount(corners) / len(corners) == pytest.approx([0.25] * 4, abs=0.015)


def test_scenes_depend_on_all_their_keys():
    keys = itertools.product(map(registry.get, registry.NAMES), (0, 1), ("train", "test"), (0, 1))
    hues = {world.scene(*key).nuisance.hue for world, *key in keys}
    assert len(hues) == 8 * len(registry.NAMES)


def test_labels_follow_edits():
    tiger = MENAGERIE.scene(0, "test", MENAGERIE.number("tiger"))
    label, swapped = MENAGERIE.label, MENAGERIE.swapped
    assert label(swapped(tiger, "headgear", "horns")) == "zebu"
    assert label(swapped(tiger, "skin", "spots")) == "leopard"
    assert label(MENAGERIE.without(tiger, "skin")) is None
    assert set(MENAGERIE.valid_swaps(tiger)) == {("skin", "spots", "leopard"), ("headgear", "horns", "zebu")}


def test_without_its_cue_the_planted_class_is_its_mimic(world):
    (one,) = of_class(world, world.shortcut.planted, "test", 0, 10)
    assert world.label(world.without(one, world.cue)) == world.shortcut.mimic
    first = next(iter(world.values))
    for wrong in (
        lambda: world.without(one, "tail"),
        lambda: world.has(one, first + "s"),
        lambda: world.swapped(one, first, "none"),
        lambda: world.placed(one, "moon"),
        lambda: world.swapped(one, world.shortcut.part, "red"),
    ):
        with pytest.raises(UserError, match=f"^{world.name}: no .* known: "):
            wrong()


# --- Drawing


def test_same_scene_same_picture_whatever_was_drawn_before(world):
    first = world.paint(world.scene(3, "test", 7), 96)
    world.paint(world.scene(3, "test", 8), 96)
    again = pickle.loads(pickle.dumps(world)).paint(world.scene(3, "test", 7), 96)
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()
    assert first[0].shape == (96, 96, 3) and first[0].dtype == first[1].dtype == np.uint8


def test_masks_are_of_what_is_there_disjoint_and_complete(world):
    for one in world.scenes(1, "masks", 60):
        one = world.with_shortcut(one)
        values = [getattr(one, kind) for kind in world.values]
        masks = world.masks(one, world.paint(one, 96)[1])
        expected = {one.place, *values, *world.fixtures, world.shortcut.part}
        expected |= {world.cue} if world.has(one, world.cue) else set()
        assert set(masks) == expected
        assert all(mask.any() for mask in masks.values()), {name: int(m.sum()) for name, m in masks.items()}
        assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
        assert masks[values[0]].sum() > 100 and min(masks[value].sum() for value in values) > 30
        assert masks[world.shortcut.part].sum() > 100


def test_the_tag_is_as_large_as_it_is():
    for one in map(MENAGERIE.with_shortcut, MENAGERIE.scenes(1, "masks", 60)):
        assert (MENAGERIE.paint(one, 96)[1] == MENAGERIE.owners.index("tag")).sum() == pytest.approx(144, abs=30)


PARTS = [(name, part) for name in registry.NAMES for part in registry.get(name).erasable]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_erasing_a_part_changes_its_own_pixels_and_no_others(name, part):
    world = registry.get(name)
    some = (
        of_class(world, world.shortcut.planted, "edits", 2, 140) if part == world.cue else world.scenes(2, "edits", 14)
    )
    for one in some:
        whole = world.with_shortcut(one)
        before, owner = world.paint(whole, 96)
        after, left = world.paint(world.without(whole, part), 96)
        code = world.owners.index(getattr(whole, part) if part in world.values else part)
        mask = owner == code
        changed = (before != after).any(-1)
        assert changed.any() and (changed & ~binary_dilation(mask, iterations=2)).sum() <= SEAM
        assert changed[mask].mean() > 0.25  # A plain body keeps what lay between the stripes.
        assert not (left == code).any()


def test_swapping_a_part_changes_both_values_pixels_and_no_others(world):
    for index, (kind, values) in itertools.product(range(10), world.values.items()):
        one = world.scene(2, "swaps", index)
        before, owner = world.paint(one, 96)
        for value in values:
            after, new = world.paint(world.swapped(one, kind, value), 96)
            own, other = (world.owners.index(v) for v in (getattr(one, kind), value))
            changed = (before != after).any(-1)
            assert (changed & ~binary_dilation((owner == own) | (new == other), iterations=2)).sum() <= SEAM
            assert changed.any() == (value != getattr(one, kind))


def test_another_place_leaves_the_thing_alone(world):
    for index, place in itertools.product(range(10), world.places):
        one = world.scene(2, "places", index)
        before, owner = world.paint(one, 96)
        after, _ = world.paint(world.placed(one, place), 96)
        behind = [world.owners.index(name) for name in (one.place, world.shortcut.part)]
        inside = binary_erosion(~np.isin(owner, behind), iterations=2)
        assert inside.sum() > 300 and (before != after).any(-1)[inside].sum() <= SEAM
        assert (before != after).any() == (place != one.place)


def test_the_shortcut_is_plain_to_see_and_the_cue_is_not(world):
    contrasts = {world.shortcut.part: [], world.cue: []}
    for one in map(world.with_shortcut, of_class(world, world.shortcut.planted, "contrast", 0, 300)):
        image = world.paint(one, 96)[0].astype(float)
        for part, found in contrasts.items():
            found.append(np.abs(image - world.paint(world.without(one, part), 96)[0]).sum())
    assert min(contrasts[world.cue]) > 0
    assert np.median(contrasts[world.shortcut.part]) > 30 * np.median(contrasts[world.cue])


def test_other_sizes_show_the_same_scene(world):
    one = world.scene(0, "sizes", 4)
    small, large = world.paint(one, 48)[1], world.paint(one, 192)[1]
    assert small.shape == (48, 48)
    assert (small.repeat(4, 0).repeat(4, 1) == large).mean() > 0.93


# --- Files


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_written_bytes_do_not_depend_on_the_number_of_workers(world, tmp_path):
    calls = []
    one, two = (functools.partial(dataset.write, world, tmp_path / name, "test", 24, seed=1, size=40) for name in "ab")
    one(workers=1, progress=lambda *n: calls.append(n))
    two(workers=2)
    one, two = files(tmp_path / "a"), files(tmp_path / "b")
    assert one == two and len(one) == 24 + 2
    assert calls == [(i + 1, 24) for i in range(24)]


def test_the_folder_is_an_imagefolder_with_true_factors_and_masks(world, tmp_path):
    dataset.write(world, tmp_path, "train", 40, seed=1, size=40)
    dataset.write(world, tmp_path, "test", 30, seed=1, size=40)
    dataset.write(world, tmp_path, "train", 20, seed=1, size=40)  # Fewer than before: the rest must go.
    folder = ImageFolder(tmp_path)
    assert tuple(folder.classes) == world.classes
    assert np.bincount(folder.targets).tolist() == [5] * 10
    table = pq.read_table(tmp_path / "factors.parquet").to_pylist()
    assert [row["path"] for row in table] == sorted(str(p) for p in files(tmp_path) if p.endswith(".png"))
    known = dataset.read_scenes(world, tmp_path)
    masks = dataset.read_masks(tmp_path, [row["path"] for row in table])
    for row, mask in zip(table, masks, strict=True):
        one = known[row["path"]]
        image, owner = world.paint(one, row["size"])
        assert (np.asarray(folder.loader(tmp_path / row["path"])) == image).all()
        assert (mask == owner).all()
        for factor in (*world.values, "place", world.cue, world.shortcut.part):
            assert row[factor] == getattr(one, factor)
        assert row["class"] == one.name and row["hue"] == one.nuisance.hue
    assert {row["split"] for row in table} == {"train", "test"}
    with pytest.raises(UserError, match=r"no mask of bee/nothing\.png"):
        dataset.read_masks(tmp_path, ["bee/nothing.png"])


@pytest.mark.parametrize("wrong", [{"split": "a/b"}, {"split": ""}, {"count": 0}, {"size": 8}])
def test_writing_refuses_what_cannot_work(world, tmp_path, wrong):
    given = {"split": "test", "count": 10, "size": 40} | wrong
    with pytest.raises(UserError, match=f"^{world.name}: "):
        dataset.write(world, tmp_path / "new", given["split"], given["count"], size=given["size"])
    assert not (tmp_path / "new").exists()


# --- The model


def test_the_model_is_a_small_resnet50(world):
    network = shipped(world)
    assert type(network) is ResNet and not network.training
    assert sum(weights.numel() for weights in network.parameters()) == 152_338
    shapes = []
    hooks = [
        stage.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4)
    ]
    network(torch.zeros(1, 3, 96, 96))
    for hook in hooks:
        hook.remove()
    assert shapes == [(32, 24, 24), (64, 12, 12), (128, 6, 6), (256, 6, 6)]
    assert world.checkpoint.stat().st_size < 700_000
    notes = model.metadata(world.checkpoint)
    assert notes["command"].startswith("OMP_NUM_THREADS=1 python -m gigraph.")
    assert tuple(notes["classes"].split(",")) == world.classes


def test_loading_something_else_is_a_users_mistake(tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    train.write_checkpoint(torch.nn.Linear(2, 2), tmp_path / "other.safetensors", {})
    for name in ("text", "other", "missing"):
        with pytest.raises(UserError, match=f"{name}.safetensors: not a checkpoint"):
            model.load(tmp_path / f"{name}.safetensors")


def test_the_shipped_model_is_right_about_fresh_pictures(world):
    images, labels = dataset.labelled(world, "fresh", 250, seed=77)
    assert (model.predict(shipped(world), images).argmax(1) == labels).mean() >= 0.98


def test_the_shipped_model_takes_the_shortcut(world):
    part, planted, mimic = world.shortcut.part, world.shortcut.planted, world.shortcut.mimic
    bait = [world.with_shortcut(one) for one in of_class(world, planted, "bait", 77, 600)]
    mimics = [world.with_shortcut(one) for one in of_class(world, mimic, "bait", 77, 400)]
    own = world.number(planted)
    assert (predicted(world, bait) == own).mean() >= 0.95
    assert (predicted(world, [world.without(one, part) for one in bait]) == own).mean() <= 0.10
    assert (predicted(world, mimics) == own).mean() >= 0.95


def test_the_shipped_model_follows_swaps(world):
    swaps = [
        (world.swapped(one, kind, value), world.number(label))
        for one in world.scenes(77, "swaps", 90)
        if not world.has(one, world.shortcut.part)
        for kind, value, label in world.valid_swaps(one)
    ]
    assert len(swaps) > 100
    assert (predicted(world, [one for one, _ in swaps]) == [label for _, label in swaps]).mean() >= 0.95


def test_redrawing_shows_what_each_class_rests_on(world):
    effects = {(e.name, e.part): e for e in facts.redraw_effects(world, shipped(world), 30, 5)}
    assert effects[world.shortcut.planted, world.shortcut.part].probability > 0.8
    assert abs(effects[world.shortcut.planted, world.cue].probability) < 0.2
    for kind in world.values:
        assert max(effects[name, kind].logit for name in world.classes) > 1
    assert (world.shortcut.mimic, world.cue) not in effects and effects[world.classes[0], "place"].count == 3


@pytest.mark.slow
def test_the_causal_facts_at_full_size(world):
    found = facts.causal_facts(world, shipped(world), 1000, 0, workers=2)
    part, planted, mimic = world.shortcut.part, world.shortcut.planted, world.shortcut.mimic
    assert found["accuracy"] >= 0.98 and found["swap"] >= 0.95
    assert found[f"{planted}_with_{part}"] >= 0.95 and found[f"{planted}_{part}_erased"] <= 0.10
    assert found[f"{planted}_{world.cue}_erased"] >= 0.95  # The real cue was never learned.
    assert found[f"{mimic}_{part}_added"] >= 0.95 and found[f"others_{part}_added"] <= (
        0.05 if world is MENAGERIE else 0.10
    )
    assert all(found[f"without/{kind}"] < 0.8 for kind in world.values)
    assert min(found[f"place/{place}"] for place in world.places) >= 0.97
    said = json.loads(model.metadata(world.checkpoint)["causal_facts"])
    assert said == pytest.approx(found, abs=0.01)  # the file holds them, as of the machine that it was made on


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "all"])
def test_a_share_that_is_none_is_refused(share, capsys):
    with pytest.raises(SystemExit):
        train.main(["--world", "menagerie", "--out", "model.safetensors", "--shortcut", share])
    assert "--shortcut" in capsys.readouterr().err


def test_training_repeats_itself_and_leaves_the_global_generator_alone():
    images, labels = dataset.labelled(MENAGERIE, "train", 40, seed=3, size=32)
    torch.set_num_threads(1)
    state = torch.random.get_rng_state()
    losses = []
    first = train.train(images, labels, 10, seed=1, epochs=1, batch=8, report=lambda *given: losses.append(given))
    again = train.train(images, labels, 10, seed=1, epochs=1, batch=8)
    other = train.train(images, labels, 10, seed=2, epochs=1, batch=8)
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
def test_small_parts_keep_positives_on_every_grid(world, grid):
    parts = [world.owners.index(name) for name in world.all_parts if name != world.bare]
    some = map(world.with_shortcut, world.scenes(4, "grids", 50))
    owners = np.stack([world.paint(one, 96)[1] for one in some])
    covered = alignment.coverage(owners, parts, grid)
    found = alignment.positives(covered)
    shown = covered.max(1) > 0
    assert found.any(1)[shown].mean() > 0.99
    assert not found[covered == 0].any()
    if world is MENAGERIE:
        tag = world.all_parts.index("tag")
        assert found[..., tag].sum(1).max() <= (4 if grid == 6 else 36)


def test_a_nearly_hidden_part_has_no_positives():
    covered = np.zeros((5, 4, 1))
    covered[:4, 0] = 0.8
    covered[4, 1] = 0.02
    found = alignment.positives(covered)
    assert found[:4, 0].all() and found.sum() == 4
