"""A new image on a finished graph: an image of the run must get the attributions that the run gave it."""

import os
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image

import gigraph
from gigraph.cli import main
from gigraph.errors import UserError
from gigraph.explain import Subjects, explain, opened, reads
from gigraph.explorer.chunks import read_chunk
from gigraph.model.models import load_model
from gigraph.model.network import Network
from gigraph.records import tables
from gigraph.worlds.model import MEAN, STD
from workflow.toy import configure


@pytest.fixture(scope="module")
def done(toy_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain") / "toy"
    return shutil.copytree(toy_run, folder, symlinks=True)


def test_an_image_of_the_run_gets_the_runs_attributions(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    root = done / "results"
    image = pl.read_parquet(root / "selection.parquet").row(0, named=True)
    path = f"images/{image['path']}"
    assert main(["explain", path, "--configfile", "config.yaml"]) == 0
    told = capsys.readouterr()
    assert "index.html#/image/~-1/" in told.out and "attributing 3 pairs of layers" in told.err
    (folder,) = (root / "bisecting" / "explained").iterdir()
    new = pl.read_parquet(folder / "attributions" / "layer4.0--classes.parquet")
    old = pl.read_parquet(root / "bisecting/attributions/layer4.0--classes/*.parquet")
    old = old.filter(pl.col("image_id") == image["image_id"])
    predicted = pl.read_parquet(folder / "image.parquet")["predicted"][0]
    one, two = (
        dict(zip(*f.filter(pl.col("target") == predicted).select("sources", "values").row(0), strict=True))
        for f in (new, old)
    )
    assert one.keys() == two.keys() and one
    np.testing.assert_allclose([one[c] for c in two], list(two.values()), rtol=1e-2, atol=1e-6)
    # What the concepts leave out of it, in each layer.
    row = new.filter(pl.col("target") == predicted).row(0, named=True)
    total = sum(map(abs, [*row["values"], row["remainder"], row["error"]]))
    assert (
        f", layer4.0 {abs(row['error']) / total:.0%})  " in told.out and "; of that unexplained: layer3.1 " in told.out
    )
    shares = [float(one.split()[1].rstrip("%)")) for one in told.out.partition("unexplained: ")[2].split(",")]
    assert ("note: more than half of what " in told.err) == (max(shares) > 50)
    # Its own concepts as targets are among the run's, which adds those of its class.
    of_concepts = [
        pl.read_parquet(files).filter(pl.col("image_id").is_in([new["image_id"][0], image["image_id"]]))
        for files in (folder / "attributions/layer3.1--layer4.0.parquet",
                      root / "bisecting/attributions/layer3.1--layer4.0/*.parquet")
    ]  # fmt: skip
    both = of_concepts[0].join(of_concepts[1], on="target", suffix="_of_run")
    assert len(both) and both["at_x"].is_finite().all()
    np.testing.assert_allclose(both["at_concepts"], both["at_concepts_of_run"], rtol=1e-3, atol=1e-5)
    ((name, picture, shown, taken, _),) = read_chunk(root / "explorer" / "data", "explained")
    assert (picture, shown, taken) == (name, image["path"].split("/")[-1], predicted)
    chunk = read_chunk(root / "explorer" / "data", f"image/{name}")
    shown = {node[0]: node[1] for node in chunk["layers"][1]}
    assert shown and all(np.float32(value) == np.float32(one[concept]) for concept, value in shown.items())
    assert (root / "explorer" / "sheets" / "images" / f"{name}.webp").is_file()


def test_labels_of_the_configuration_are_in_the_explorer(done):
    assert read_chunk(done / "results" / "explorer" / "data", "meta")["labels"] == {"1:1": "kept by a rebuild"}


def test_the_configuration_is_the_snakefiles_not_one_that_happens_to_lie_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("output: decoy\n")
    (tmp_path / "my.yaml").write_text("attribution: {steps: 5}\n")
    plan = opened([tmp_path / "my.yaml"])
    assert (plan.root, plan.config.attribution.steps) == (Path("results"), 5)
    assert plan.config.attribution.max_steps == 72 and (plan.scripts / "explorer.py").is_file()


def test_a_missing_image_gets_one_line(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    assert main(["explain", "no-such.png", "--configfile", "config.yaml"]) == 1
    assert "there is no image no-such.png" in capsys.readouterr().err


def changed(folder: Path, section: str, key: str, value) -> Path:
    """Return a copy of the run's configuration with one setting changed."""
    raw = yaml.safe_load((folder / "config.yaml").read_text())
    raw[section] = {**raw.get(section, {}), key: value}
    path = folder / f"{section}-{key}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def state_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".gigraph.alone")
    return {str(path): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "weights", "other.pth"), ("preprocessing", "mean", [0.1, 0.2, 0.3]), ("concepts", "expansion", 0.25),
        ("images", "classes", "reversed"), ("attribution", "baseline", "zero"), ("families", "cosine", 0.9),
        ("evaluation", "holdout", 0.2), ("images", "limit_per_class", 2),
    ],
)  # fmt: skip
def test_tables_of_another_configuration_are_refused(done, monkeypatch, capsys, section, key, value):
    monkeypatch.chdir(done)
    torch.save(load_model("menagerie").state_dict(), "other.pth")
    if value == "reversed":
        value = sorted((path.name for path in (done / "images").iterdir()), reverse=True)
    copy = changed(done, section, key, value)
    image = pl.read_parquet("results/selection.parquet")["path"][0]
    before = state_of(done / "results")
    assert main(["explain", f"images/{image}", "--configfile", str(copy)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{section}.{key}" in line and "run snakemake" in line
    assert state_of(done / "results") == before
    with pytest.raises(UserError, match="planned"):
        gigraph.open("results", configfile=copy).edges()
    assert len(gigraph.open("results", configfile="config.yaml").edges())


@pytest.mark.parametrize(
    ("layers", "words"),
    [(["layer4.0"], "layers.layer3.1"), (["layer2.0", "layer3.1", "layer4.0"], "layers.layer2.0"),
     (["layer3.1", {"name": "layer4.0", "families": {"cosine": 0.9}}], "layers.layer4.0.families.cosine is 0.9")],
)  # fmt: skip
def test_the_layer_that_differs_is_named(done, monkeypatch, capsys, layers, words):
    monkeypatch.chdir(done)
    raw = yaml.safe_load((done / "config.yaml").read_text())
    (done / "layers.yaml").write_text(yaml.safe_dump({**raw, "layers": layers}))
    image = pl.read_parquet("results/selection.parquet")["path"][0]
    assert main(["explain", f"images/{image}", "--configfile", "layers.yaml"]) == 1
    assert words in capsys.readouterr().err


def test_an_image_that_was_added_is_named(toy_run, tmp_path, monkeypatch):
    folder = shutil.copytree(toy_run, tmp_path / "toy", symlinks=True)
    monkeypatch.chdir(folder)
    (folder / "images" / "bee" / "added.png").write_bytes(next((folder / "images" / "bee").glob("*.png")).read_bytes())
    with pytest.raises(UserError, match="images has changed"):
        explain(opened([Path("config.yaml")]), "bisecting", [Path("images/bee/added.png")])


def test_all_that_explaining_reads_is_held(done, monkeypatch):
    monkeypatch.chdir(done)
    plan, found, read = opened([Path("config.yaml")]), set(), tables.read

    def noted(paths, *rest):
        found.update(str(path) for path in ([paths] if isinstance(paths, str | Path) else paths))
        return read(paths, *rest)

    monkeypatch.setattr(tables, "read", noted)
    image = pl.read_parquet("results/selection.parquet")["path"][0]
    assert main(["explain", f"images/{image}", "--configfile", "config.yaml"]) == 0
    held = {str(plan.results(one.name, **of)) for one in reads(plan, "bisecting") for of in plan.expand(one)}
    assert found and {path for path in found if "/explained/" not in path} <= held


def test_without_a_configuration_a_run_is_held_against_its_last_plan(done, tmp_path, monkeypatch):
    """Also where the folder was moved; tables of a method or of layers that the last run did not plan are refused."""
    moved = shutil.copytree(done / "results", tmp_path / "elsewhere")
    run = gigraph.open(moved)
    assert len(run.edges()) and len(run.table("evaluation/reconstruction"))
    plan = moved / "plan.json"
    plan.write_text(plan.read_text().replace("graph/edges", "graph/old"))
    with pytest.raises(UserError, match=r"graph/edges.parquet is left from other"):
        gigraph.open(moved).edges()
    shutil.copytree(moved / "bisecting", moved / "kmeans")
    with pytest.raises(UserError, match="kmeans"):
        gigraph.open(moved, "kmeans").edges()


@pytest.mark.parametrize("size", [(640, 480), (100, 100), (300, 40), (192, 48), (7, 5)])
def test_a_photo_of_another_size_has_maps_of_its_own(done, monkeypatch, capsys, size):
    """Nothing crops here, and the network takes any size; 192 x 48 has as many positions as the run's images."""
    monkeypatch.chdir(done)
    noise = np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save("photo.png")
    assert main(["explain", "photo.png", "--configfile", "config.yaml"]) == 0
    name = capsys.readouterr().out.split("/")[-1].strip()
    folder = done / "results/bisecting/explained" / name
    x = torch.from_numpy(noise).permute(2, 0, 1)[None] / 255
    model = Network(load_model("menagerie"), (3, size[1], size[0]), "model")
    layer = model.layer("layer4.0")
    with torch.inference_mode():
        found = model.activations((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1), [layer])
    pfvs = layer.to_pfvs(found["layer4.0"])[0].numpy()
    codes = pl.read_parquet(folder / "coefficients/layer4.0.parquet")
    assert codes["y"].max() + 1 == layer.height and codes["x"].max() + 1 == layer.width
    vectors = np.stack(pl.read_parquet("results/bisecting/concepts/layer4.0.parquet")["vector"])
    beta = tables.beta("results/centres/layer4.0.parquet")
    for row in codes.iter_rows(named=True):
        pfv = pfvs[row["y"] * layer.width + row["x"]] - beta
        left = pfv - np.array(row["values"], np.float32) @ vectors[row["concepts"]]
        assert np.linalg.norm(left) / np.linalg.norm(pfv) == pytest.approx(row["rel_l2"], rel=1e-3, abs=1e-5)
    rows = pl.read_parquet(folder / "attributions/layer4.0--classes.parquet")
    probabilities = found["classes"].softmax(1)[0].numpy()
    for target, at_x in rows.select("target", "at_x").iter_rows():
        assert at_x == pytest.approx(probabilities[target], abs=1e-4)
    chunk = read_chunk(done / "results/explorer/data", f"image/{name}")
    grid = next(text for key, text in chunk["maps"].items() if key.startswith("1:"))
    assert [len(line) for line in grid.split("/")] == [layer.width] * layer.height


FLAT = """
from torch import nn

def make():
    head = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*head, nn.Linear(4 * 21 * 21, 2))
"""


def test_a_network_of_one_size_refuses_another_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat.py").write_text(FLAT)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (96, 96)).save(tmp_path / "images" / name / "1.png")
    plan = opened([configure(tmp_path, model={"source": "flat.py:make"}, layers=["0", "3"])])
    subjects = Subjects(plan)
    assert subjects.of(Path("same.png"), (96, 96)) is subjects.own
    with pytest.raises(UserError, match=r"photo.png gives an input of 100x50, the run's images give 96x96") as caught:
        subjects.of(Path("photo.png"), (100, 50))
    assert "\n" not in str(caught.value)


OUTPUTS = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Conv2d(4, 2, 12), nn.Flatten())
"""


def test_a_network_whose_outputs_change_with_the_size_refuses_another(tmp_path, monkeypatch):
    """Of a larger photo it has four times as many outputs, and each would be taken for a class."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(OUTPUTS)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (96, 96)).save(tmp_path / "images" / name / "1.png")
    subjects = Subjects(opened([configure(tmp_path, model={"source": "net.py:make"}, layers=["0"])]))
    with pytest.raises(UserError, match=r"104x104, the run's images give 96x96, .*8 outputs there instead of 2"):
        subjects.of(Path("photo.png"), (104, 104))


def test_a_photo_that_no_memory_holds_is_refused_with_a_size_that_would_do(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    Image.new("RGB", (300, 200)).save("large.png")
    before = state_of(done / "results")
    monkeypatch.setattr("gigraph.explain.free_memory", lambda device: 10**7)
    assert main(["explain", "large.png", "--configfile", "config.yaml"]) == 1
    opening, line = capsys.readouterr().err.splitlines()
    assert opening == "opening the network and its concepts ..."
    width, height = map(int, re.search(r"scale or cut it to (\d+)x(\d+) or less", line).groups())
    assert "image large.png gives an input of 300x200" in line and "0.0 GB are free" in line
    assert state_of(done / "results") == before
    subjects, concepts = Subjects(opened([Path("config.yaml")])), {"layer3.1": 16, "layer4.0": 32}
    with pytest.raises(UserError, match="GB of memory"):
        subjects.check_room(Path("x"), (300, 200), concepts)
    subjects.check_room(Path("x"), (width, height), concepts)
    monkeypatch.setattr("gigraph.explain.free_memory", lambda device: None)  # a system that does not say
    subjects.check_room(Path("x"), (30000, 20000), concepts)


@pytest.mark.parametrize(
    ("name", "words"),
    [(b"lat\xe9.png", "is not valid UTF-8; rename"), (b"folder", "is a folder"), (b"folder.jpg", "is a folder")],
)
def test_paths_that_are_refused(done, monkeypatch, capsys, name, words):
    monkeypatch.chdir(done)
    if b"folder" in name:
        Path(os.fsdecode(name)).mkdir()
    else:
        Image.new("RGB", (96, 96)).save(name)
    before = state_of(done / "results")
    assert main(["explain", os.fsdecode(name), "--configfile", "config.yaml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert state_of(done / "results") == before


@pytest.mark.parametrize("name", ["new\nline.png", "a b'c\"$.png", "\u65e5\u672c.png", "\x1b[31mred.png"])
def test_names_of_any_letters_are_shown_on_one_line(done, monkeypatch, capsys, name):
    monkeypatch.chdir(done)
    Image.new("RGB", (96, 96)).save(name)
    assert main(["explain", name, "--configfile", "config.yaml"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "\x1b" not in line and line.startswith(name.split("\n")[0][:1].replace("\x1b", "\ufffd"))


def test_images_after_the_configuration_are_told_where_they_belong(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    assert main(["explain", "--configfile", "config.yaml", "photo.png"]) == 1
    assert "images come first: gigraph explain IMAGE" in capsys.readouterr().err
    assert main(["plan", "--configfile", "config.yaml", "--cores", "-1"]) == 1
    assert "--cores: -1 is no number of cores" in capsys.readouterr().err
    run = gigraph.open("results")
    with pytest.raises(
        UserError, match=r"there is no table 'evaluation/reconstructions' .* did you mean evaluation/rec"
    ):
        run.table("evaluation/reconstructions")


def test_an_explanation_that_fails_leaves_nothing(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    Image.new("RGB", (64, 64)).save("broken.png")
    before = state_of(done / "results")

    def fail(*_):
        raise UserError("no")

    monkeypatch.setattr("gigraph.explain.rows", fail)
    assert main(["explain", "broken.png", "--configfile", "config.yaml"]) == 1
    assert state_of(done / "results") == before


def test_two_commands_with_one_photo_write_one_after_the_other(done, monkeypatch):
    """The second one ended in a traceback, as the first one had moved away what it wrote."""
    monkeypatch.chdir(done)
    Image.new("RGB", (96, 96)).save("twice.png")
    plan, inside, most = opened([Path("config.yaml")]), [], []
    subjects = Subjects(plan)  # torch traces no two networks at once in one process
    monkeypatch.setattr("gigraph.explain.Subjects", lambda plan: subjects)

    def write(plan, method, subject, concepts, path, image, folder):
        inside.append(image)
        most.append(len(inside))
        time.sleep(0.3)
        folder.mkdir(parents=True, exist_ok=True)
        inside.pop()

    monkeypatch.setattr("gigraph.explain._write", write)
    threads = [threading.Thread(target=explain, args=(plan, "bisecting", [Path("twice.png")])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]


def test_a_method_without_a_graph_is_no_promise(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    image = pl.read_parquet("results/selection.parquet")["path"][0]
    assert main(["explain", f"images/{image}", "--configfile", "config.yaml", "--method", "kmeans"]) == 1
    assert "configured: bisecting" in capsys.readouterr().err
