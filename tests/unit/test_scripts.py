"""What scripts hold at once and compile."""

import ast
import importlib.util
import inspect
import itertools
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from gigraph.errors import UserError
from gigraph.explorer.chunks import numbers
from gigraph.method.bisecting import bisect, tree
from gigraph.method.lasso import batched, calibrate, lasso, rounding
from gigraph.method.pursuit import Pursuit
from gigraph.method.pursuit import batched as batched_pursuit
from gigraph.records import tables
from gigraph.records.schemas import SCHEMAS

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled_modules():
    from gigraph.method.bisecting import compiled as clustering
    from gigraph.method.lasso import compiled as decomposition
    from gigraph.method.pursuit import compiled as pursuit

    return clustering, decomposition, pursuit


ENTERED = ["_advance", "_pursue", "_refit", "_split_largest_first", "_unit_rows"]
"""The kernels that Python calls."""
EVERY_KERNEL = {"kernels": ["clustering", "lasso", "pursuit"]}


def kernels_of(module):
    return [value for value in vars(module).values() if hasattr(value, "py_func")]


def test_after_the_script_kernels_no_job_compiles(tmp_path, monkeypatch):
    """Whatever arrays the jobs come with: of a table, which may not be written, or made anew."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("numba")

    def compiled():
        return [(f.__qualname__, list(f.signatures)) for module in compiled_modules() for f in kernels_of(module)]

    script("kernels").main(Namespace(kernels=tmp_path / "kernels.parquet", settings=EVERY_KERNEL, lineage=""))
    assert pl.read_parquet(tmp_path / "kernels.parquet")["kernel"].to_list() == ["clustering", "lasso", "pursuit"]
    before = compiled()
    rng = np.random.default_rng(0)
    for writeable, order in itertools.product((True, False), "CF"):
        x, v = np.asarray(rng.random((60, 5)), np.float32, order), np.asarray(rng.random((9, 5)), np.float32, order)
        x.flags.writeable = v.flags.writeable = writeable
        bisect(x, 8, backend="numba")
        lasso(x, v, 0.3, backend="numba")
        lasso(x, v, 0.3, backend="numba", memory=1)  # without the Gram matrix
        calibrate(x, v, 2, backend="numba")
        for memory, sign in itertools.product((2**31, 1), ("any", "nonnegative")):
            solver = Pursuit(v, backend="numba", memory=memory)
            solver.refit(x, solver.solve(x, 3, 0.1, sign), sign)
    after = compiled()
    assert after == before
    # Other tests may have compiled before.
    assert sorted((name, len(signatures)) for name, signatures in after if name in ENTERED) == [(n, 1) for n in ENTERED]


JOB = """
import sys
import numpy as np
from gigraph.method.bisecting import bisect
from gigraph.method.lasso import calibrate, lasso
from gigraph.method.pursuit import Pursuit
from gigraph.method.vectors import concept_vectors

loaded = {"numba", "torch"} & set(sys.modules)
assert not loaded, f"{loaded} loaded for nothing"
x = np.random.default_rng(0).random((60, 5), np.float32)
v = concept_vectors(x, bisect(x, 8, backend="numba").labels, 8)
lasso(x, v, 0.3, backend="numba")
calibrate(x, v, 2, backend="numba")
solver = Pursuit(v, backend="numba")
solver.refit(x, solver.solve(x, 2))

from gigraph.method.bisecting import compiled as clustering
from gigraph.method.lasso import compiled as decomposition
from gigraph.method.pursuit import compiled as pursuit

modules = (clustering, decomposition, pursuit)
kernels = {name: f.stats for m in modules for name, f in vars(m).items() if hasattr(f, "stats")}
print(*sorted(name for name, stats in kernels.items() if stats.cache_hits))
print(*sorted(name for name, stats in kernels.items() if stats.cache_misses))
"""


def test_a_job_finds_on_disk_what_the_script_kernels_compiled(tmp_path, monkeypatch):
    """In a process of its own, and without the compiler for what needs none."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("numba")
    script("kernels").main(Namespace(kernels=tmp_path / "kernels.parquet", settings=EVERY_KERNEL, lineage=""))
    done = subprocess.run([sys.executable, "-c", JOB], cwd=tmp_path, text=True, capture_output=True)
    assert done.stdout.splitlines() == [" ".join(ENTERED), ""], done.stderr


def test_kernels_compile_in_nothing_from_other_files():
    """numba renews its cache on disk when a kernel's own file changes, and by nothing else."""
    pytest.importorskip("numba")
    others_of = [[tree], [batched, rounding], [batched_pursuit, rounding]]
    for module, others in zip(compiled_modules(), others_of, strict=True):
        body = ast.parse(Path(module.__file__).read_text()).body
        own = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        constants = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}
        for kernel in kernels_of(module):
            read = {name for name in kernel.py_func.__code__.co_names if name in vars(module)}
            assert {name for name in read - own - constants if not inspect.ismodule(vars(module)[name])} == set()
        shared = [(name, other) for other in others for name in constants & set(vars(other)) if name.isupper()]
        assert shared
        for name, other in shared:
            assert vars(module)[name] == vars(other)[name], name


def test_more_concepts_than_pfvs_are_capped_with_a_note(tmp_path, caplog):
    n, channels = 36, 16
    rng = np.random.default_rng(0)
    files = {name: tmp_path / f"{name}.parquet" for name in ("centre", "pfvs", "concepts", "tree", "encoder")}
    beta = np.zeros(channels, np.float32)
    centre = {"layer": ["a"], "center": ["zero"], "beta": [beta], "distance": [0.0], "mean_cosine": [0.0]}
    tables.write(files["centre"], "centre", centre)
    one = {"y": [0] * n, "x": [0] * n, "contribution": [1.0] * n, "residual": [0.0] * n, "fallback": [False] * n}
    pfvs = rng.standard_normal((n, channels)).astype(np.float32)
    tables.write(files["pfvs"], "pfvs", {"image_id": range(n), **one, "pfv": pfvs}, vectors="pfv")
    settings = {"seed": 0, "holdout": 0.0, "layer": "a", "method": "bisecting", "expansion": 8.0, "scale": "mean",
                "max_iter": 20}  # fmt: skip
    for min_members, k in ((4, 9), (1, 36)):
        caplog.clear()
        with caplog.at_level("INFO", logger="gigraph"):
            given = Namespace(settings={**settings, "min_members": min_members}, lineage="", **files)
            given.pfvs, given.uniform = [files["pfvs"]], None
            script("concepts").main(given)
        found = pl.read_parquet(files["concepts"])
        assert len(found) == k and (found["images"] == found["size"]).all()  # one PFV an image
        assert f"note: a: K is capped at {k} (8 x 16 channels asked for)" in caplog.text
        assert "there are 36" in caplog.text


def test_the_standard_error_of_a_single_image_is_null(tmp_path):
    """Of two images of a class and one of another; so is it in the frames and the site that are made of the table."""
    files = {name: tmp_path / f"{name}.parquet" for name in ("selection", "attributions", "kept")}
    labels = [0, 0, 1]
    chosen = {"image_id": range(3), "path": ["a", "b", "c"], "label": labels, "shard": [0] * 3}
    tables.write(files["selection"], "selection", chosen)
    columns = dict.fromkeys(SCHEMAS["attributions"].names, [0] * 3)
    columns |= {"image_id": range(3), "label": labels, "target": labels, "sources": [[4]] * 3}
    columns |= {"values": [[1.0], [3.0], [2.0]], "members": [[]] * 3, "member_values": [[]] * 3}
    tables.write(files["attributions"], "attributions", columns)
    given = Namespace(settings={"layer": "a", "class_targets": 3}, lineage="", **files)
    given.attributions = [files["attributions"]]
    script("kept").main(given)
    kept = pl.read_parquet(files["kept"]).sort("scope")
    assert kept["scope"].to_list() == [-1, 0, 1] and kept["relevance"].to_list() == [2, 2, 2]
    assert kept["se"].to_list()[1:] == [1, None] and numbers(kept["se"])[1:] == [1, None]


@pytest.mark.parametrize(("predicted", "noted"), [([1, 1], True), ([0, 1], False)])
def test_values_on_one_side_of_the_reference_are_noted_with_their_mean(tmp_path, caplog, predicted, noted):
    files = {
        name: tmp_path / f"{name}.parquet" for name in ("manifests", "predictions", "images", "rejects", "rejected")
    }
    tables.write(files["rejects"], "rejected", {"path": [], "reason": []})
    paths = {"path": ["a.png", "b.png"], "class": [None] * 2, "width": [8] * 2, "height": [8] * 2}
    tables.write(files["manifests"], "manifest", {"image_id": [1, 2], "label": [-1, -1], **paths})
    said = {"predicted": predicted, "probability": [None] * 2, "value": [30.0, 44.5]}
    tables.write(files["predictions"], "predictions", {"image_id": [1, 2], **said})
    with caplog.at_level("INFO", logger="gigraph"):
        script("images").main(Namespace(lineage="", settings={"source": "", "drawn": True}, **files))
    assert ("note: all values lie on one side of model.reference" in caplog.text) == noted
    assert ("37.25" in caplog.text) == noted


def test_classes_that_are_mostly_mistaken_are_noted(tmp_path, caplog):
    files = {
        name: tmp_path / f"{name}.parquet" for name in ("manifests", "predictions", "images", "rejects", "rejected")
    }
    tables.write(files["rejects"], "rejected", {"path": [], "reason": []})
    labels, predicted = [0] * 6 + [1] * 6 + [2] * 4, [0, 0, 1, 1, 1, 1] + [1, 1, 1, 0, 0, 0] + [0] * 4
    n = len(labels)
    names = {"class": [["cat", "dog", "few"][label] for label in labels], "path": [f"{i}.png" for i in range(n)]}
    tables.write(
        files["manifests"], "manifest",
        {"image_id": range(n), "label": labels, **names, "width": [8] * n, "height": [8] * n},
    )  # fmt: skip
    said = {"predicted": predicted, "probability": [0.5] * n, "value": [None] * n}
    tables.write(files["predictions"], "predictions", {"image_id": range(n), **said})
    with caplog.at_level("INFO", logger="gigraph"):
        script("images").main(Namespace(lineage="", settings={"source": "", "drawn": True}, **files))
    assert "note: less than half of the images of cat are recognised: " in caplog.text, "dog: half; few: of 4 images"
    caplog.clear()
    said["predicted"] = [1] * 6 + [0] * 6 + [2] * 4
    tables.write(files["predictions"], "predictions", {"image_id": range(n), **said})
    with caplog.at_level("INFO", logger="gigraph"):
        script("images").main(Namespace(lineage="", settings={"source": "", "drawn": True}, **files))
    assert "note: most images of cat, dog are predicted as one other class each" in caplog.text
    assert "images.classes" in caplog.text and "recognised" not in caplog.text and "near chance" not in caplog.text
    caplog.clear()
    other = {"image_id": [100 + i for i in range(6)], "label": [3] * 6}  # a third class is lost otherwise
    rows = {name: [*tables.read(files["manifests"])[name].to_pylist(), *given] for name, given in {
        **other, "class": ["owl"] * 6, "path": [f"o{i}.png" for i in range(6)], "width": [8] * 6, "height": [8] * 6,
    }.items()}  # fmt: skip
    tables.write(files["manifests"], "manifest", rows)
    said = {
        "predicted": [*said["predicted"], 2, 2, 2, 0, 1, 1],
        "probability": [0.5] * (n + 6),
        "value": [None] * (n + 6),
    }
    tables.write(files["predictions"], "predictions", {"image_id": rows["image_id"], **said})
    with caplog.at_level("INFO", logger="gigraph"):
        script("images").main(Namespace(lineage="", settings={"source": "", "drawn": True}, **files))
    assert "images of cat, dog are predicted as one other class" in caplog.text and "images of owl are" in caplog.text
    assert "note: accuracy 18.2%" in caplog.text


def test_layers_between_which_edges_hardly_agree_with_ablations_are_noted(caplog):
    ends = {"source_layer": ["a"] * 12 + ["b"] * 12 + ["c"] * 4, "target_layer": ["b"] * 12 + ["c"] * 12 + ["d"] * 4}
    ablation = [1.0] * 7 + [-1.0] * 5 + [1.0] * 8 + [-1.0] * 4 + [-1.0] * 4
    drawn = pa.table({**ends, "mean": [2.0, *[1.0] * 27], "ablation": pa.array(ablation, pa.float32())})
    with caplog.at_level("INFO", logger="gigraph"):
        script("graph")._hold_against_ablation(drawn, [("a", "b"), ("b", "c"), ("c", "d")])
    notes = [line for line in caplog.messages if line.startswith("note: ")]
    assert len(notes) == 1 and notes[0].startswith("note: a to b: only 58% of 12 shown edges"), (
        "b to c: two thirds; c: 4"
    )
    assert caplog.messages[-1].startswith("54% of shown edges")


@pytest.fixture
def select(tmp_path):
    """Return a function of settings to the (label, image) that the script ``selection`` chooses of three classes."""
    labels = [0] * 4 + [1] * 9 + [2] * 6
    n = len(labels)
    files = {name: tmp_path / f"{name}.parquet" for name in ("classes", "manifest", "rejects", "selection")}
    tables.write(
        files["classes"], "classes", {"label": range(4), "class": ["ant", "bee", "cow", "dog"], "task": ["classes"] * 4}
    )
    images = {"image_id": range(n), "path": [f"{i}.png" for i in range(n)], "label": labels, "class": ["x"] * n}
    tables.write(files["manifest"], "manifest", {**images, "width": [8] * n, "height": [8] * n})
    tables.write(files["rejects"], "rejected", {"path": [], "reason": []})

    def selected(names=None, **settings):
        if names:
            tables.write(files["classes"], "classes", {"label": range(4), "class": names, "task": ["classes"] * 4})
        given = {"seed": 0, "classes": None, "images_per_class": 3, "images": None, "max_rejected": 0, "uniform": False}
        named = isinstance(settings.get("classes"), list)
        script("selection").main(
            Namespace(
                settings=given | settings, lineage="", manifests=[files["manifest"]], rejects=[files["rejects"]],
                predictions=[], classes=[files["classes"]] * named, selection=files["selection"],
            )
        )  # fmt: skip
        return set(pl.read_parquet(files["selection"]).select("label", "image_id").iter_rows())

    return selected


def test_chosen_classes_are_attributed_alone(select, caplog):
    every = select()
    assert sorted(label for label, _ in every) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # By name, or the most frequent; the images of a class are the same.
    assert select(classes=["cow", "ant"]) == {one for one in every if one[0] != 1}
    assert select(classes=2) == {one for one in every if one[0] != 0}
    assert select(classes=9) == every
    with caplog.at_level("INFO", logger="gigraph"):
        assert select(classes=["bee", "dog"]) == {one for one in every if one[0] == 1}
    assert "note: no image is of dog" in caplog.text
    with pytest.raises(UserError, match=r"attribution\.classes: there is no class 'cat'; did you mean ant"):
        select(classes=["cat"])
    with pytest.raises(UserError, match="no image is of dog"):
        select(classes=["dog"])


def test_classes_are_chosen_by_what_the_explorer_calls_them_too(select):
    names = ["n01_ant", "n02_bumble_bee", "n03_cow", "n04_dog"]
    assert {label for label, _ in select(names, classes=["bumble bee", "n03_cow"])} == {1, 2}
    with pytest.raises(
        UserError, match=r"attribution\.classes: there is no class 'bumblebee'; did you mean n02_bumble"
    ):
        select(names, classes=["bumblebee"])


def test_a_number_of_images_is_balanced_over_the_classes(select):
    every = select()
    few = select(images=5)
    assert few < every and sorted(label for label, _ in few).count(0) in (1, 2)
    assert {label for label, _ in few} == {label for label, _ in select(images=3)} == {0, 1, 2}
    assert len(few) == 5 and len(select(images=100)) == 9 and len(select(images=2)) == 2
    assert select(images=4, classes=["bee"]) == {one for one in every if one[0] == 1}


def test_what_is_passed_over_is_listed_and_is_no_unreadable_image(tmp_path, caplog):
    """With its reason; dark pictures of 12 bits in 16 are remarked."""
    from PIL import Image

    for name in ("a", "b", "b/@eaDir"):
        (tmp_path / "images" / name).mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "images/a/dark.png")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "images/b/1.png")
    (tmp_path / "images/b/2.heic").write_bytes(b"ftypheic")
    Image.new("RGB", (1, 30000), "white").save(tmp_path / "images/b/3.png")
    for name in ("b/notes.txt", "b/@eaDir/1.png", "labels.csv"):
        (tmp_path / "images" / name).write_text("")
    source = {"source": str(tmp_path / "images"), "shards": 2, "classes": None, "limit_per_class": None}
    settings = {**source, "grouped": False, "max_pixels": 10**6, "channels": 3, "resize": 64}
    files = {}
    with caplog.at_level("INFO", logger="gigraph"):
        for shard in range(2):
            one = {name: tmp_path / f"{name}-{shard}.parquet" for name in ("manifest", "rejected")}
            compute = Namespace(workers=1)
            script("manifest").main(
                Namespace(settings=settings, lineage="", classes=[], shard=str(shard), compute=compute, **one)
            )
            for name, path in one.items():
                files.setdefault(name, []).append(path)
    assert "note: the numbers of 1 pictures of 16 bits go up to 6.3% of white, as those of 12 bits do" in caplog.text
    ids = pl.concat([pl.read_parquet(path) for path in files["manifest"]])["image_id"]
    columns = {"image_id": ids, "predicted": [0, 1], "probability": [1, 1], "value": [None, None]}
    tables.write(tmp_path / "predictions.parquet", "predictions", {k: list(v) for k, v in columns.items()})

    def gathered(drawn):
        args = {"rejects": files["rejected"], "manifests": files["manifest"], "images": tmp_path / "images.parquet"}
        script("images").main(
            Namespace(
                settings={**source, "drawn": drawn}, lineage="", predictions=[tmp_path / "predictions.parquet"],
                rejected=tmp_path / "rejected.parquet", **args,
            )
        )  # fmt: skip
        return pl.read_parquet(tmp_path / "rejected.parquet").sort("path")

    assert "b/notes.txt" not in gathered(drawn=True)["path"].to_list()  # its own truth lies there
    rejected = gathered(drawn=False)
    assert rejected["path"].to_list() == ["b/2.heic", "b/3.png", "b/@eaDir/", "b/notes.txt", "labels.csv"]
    assert "1x30000 pixels, too thin" in rejected["reason"][1]
    assert rejected["reason"][0].startswith(".heic pictures are not read")
    chosen = {"seed": 0, "classes": None, "images_per_class": 3, "images": None, "uniform": False}

    def select(max_rejected):
        script("selection").main(
            Namespace(
                settings=chosen | {"max_rejected": max_rejected}, lineage="", manifests=files["manifest"],
                rejects=files["rejected"], predictions=[], classes=[], selection=tmp_path / "selection.parquet",
            )
        )  # fmt: skip

    select(0.5)  # two of four are unreadable
    with pytest.raises(UserError, match=r"2 of 4 images are unreadable.*b/\d"):
        select(0.3)


@pytest.mark.parametrize("told", [[0.1, 0.3], [None, None]])
def test_an_attribution_that_tells_no_error_of_its_own_is_judged_by_its_sum(told, caplog):
    """Another method that is complete, such as a user's, need not estimate one."""
    caplog.set_level("INFO", "gigraph")
    columns = {
        "quadrature_error": told,
        "completeness_error": [-0.2, 0.02],
        "total_absolute": [2.0, 2.0],
        "steps": [8, 8],
    }
    script("attribution")._report(columns, "low", "high", 0.09, 8)
    most = 15 if told[0] else 10
    assert f"1 of 2 have an error above attribution.tolerance (9%), at most {most}%, after" in caplog.text
    assert ("at most 15.0%; of sums" in caplog.text) == (told[0] is not None)


def gathered(most, memory):
    """Seven images in sweeps of two; of two positions, three channels and concepts, and four logits: 64 bytes each."""
    x = torch.arange(7.0)[:, None].expand(-1, 4)
    parts = [slice(first, min(first + 2, 7)) for first in range(0, 7, 2)]
    subject = SimpleNamespace(
        layers={"a": SimpleNamespace(channels=3)}, images_at_once=2, memory=memory,
        compute=SimpleNamespace(batch_size=most), images=lambda *_: iter([(part, x[part]) for part in parts]),
        network=SimpleNamespace(activations=lambda some, _: {"classes": some}),
    )  # fmt: skip
    decompositions = lambda part: [  # noqa: E731
        SimpleNamespace(u=torch.zeros(2, 3), image=i) for i in range(part.start, part.stop)
    ]
    ids, given = np.arange(7), Namespace(settings={"images": ""})
    selection = {i: {"path": ""} for i in range(7)}
    return list(script("attribution")._gathered(given, subject, "classes", ids, selection, decompositions))


@pytest.mark.parametrize(
    ("most", "memory", "sizes"), [(4, 10**6, [4, 3]), (32, 10**6, [7]), (32, 4 * 200, [4, 3]), (1, 4, [2, 2, 2, 1])]
)
def test_paths_of_as_many_images_as_fit_are_attributed_together(most, memory, sizes):
    found = gathered(most, memory)
    assert [part.stop - part.start for part, _, _ in found] == sizes
    assert [one.image for _, images, _ in found for one in images] == list(range(7))
    for part, _, real in found:
        assert real[:, 0].tolist() == list(range(part.start, part.stop))


def held(tmp_path, ids, share, images=60):
    """Run the script `heldout` on images of one class."""
    labels = np.zeros(len(ids), np.int32)
    columns = {"image_id": ids, "path": [f"{i}.png" for i in ids], "label": labels, "width": labels, "height": labels}
    tables.write(tmp_path / "manifest.parquet", "manifest", {**columns, "class": [""] * len(ids)})
    settings = {"seed": 0, "holdout": share, "images": images}
    own = {"manifests": [tmp_path / "manifest.parquet"], "predictions": [], "heldout": tmp_path / "heldout.parquet"}
    script("heldout").main(Namespace(settings=settings, lineage="", **own))
    return pl.read_parquet(tmp_path / "heldout.parquet")


def test_one_held_out_image_is_too_few_for_an_evaluation(tmp_path, caplog):
    """One half of the images chooses, the other is judged: as without any, all images are looked at."""
    from gigraph.method.heldout import held_out

    ids = np.arange(40, dtype=np.int64) * 977
    share = next(share for share in np.linspace(0.001, 0.2, 400) if held_out(ids, 0, share).sum() == 1)
    with caplog.at_level("INFO"):
        assert len(held(tmp_path, ids, share)) == 40
    assert "leaves only one image out" in caplog.text
    share = next(share for share in np.linspace(share, 0.5, 400) if held_out(ids, 0, share).sum() == 2)
    assert len(held(tmp_path, ids, share)) == 2
    with pytest.raises(UserError, match="two images"):
        held(tmp_path, ids[:1], share)


def test_the_evaluation_is_gathered_by_what_checks_it(tmp_path):
    from gigraph.records.paths import Results

    with pytest.raises(UserError, match="measures"):
        script("evaluation_tables")._gather(Results(tmp_path), "measures", ["bisecting"], ["layer"])
