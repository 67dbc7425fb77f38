"""Names and files of people who mean no good: listed, refused or escaped, never followed or run."""

import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from gigraph.errors import UserError, one_line
from gigraph.images.listing import labelled, members, scan
from gigraph.planning.config import Compute, load
from gigraph.planning.plan import Plan
from gigraph.records import tables
from gigraph.records.graphml import write_graphml

ROOT = Path(__file__).parents[2]
NAMES = [
    "</script><img src=x onerror=alert(1)>".replace("/", "\N{FRACTION SLASH}"),
    "'; touch owned; '",
    '"quoted" $(touch owned) `touch owned`',
    "two\nlines",
    "{wildcard} {shard}",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.txt",
    "\x1b[31mred\x07",
    "--rejected",
    " spaces ",
    "%s %n \\",
    "é" * 127 + "x",  # 255 bytes
    "..hidden..",
]


def script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"workflow/scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world(tmp_path):
    """One picture in a class folder of each hostile name, itself of a hostile name."""
    for index, name in enumerate(NAMES):
        if name.startswith("."):
            continue
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / ("a'\"\n<b>.png"))
    return tmp_path


def test_hostile_names_come_through_whole(world):
    """From the folder through the manifest: each name arrives as it is, in the right class, and nothing is run."""
    entries = scan(world / "images")
    assert {entry.class_name for entry in entries} == {name for name in NAMES if not name.startswith(".")}
    settings = {
        "source": str(world / "images"), "shards": 1, "limit_per_class": None, "classes": None, "max_pixels": 10**6,
        "grouped": False, "drawn": False, "channels": 3, "resize": None,
    }  # fmt: skip
    command = [
        sys.executable, str(ROOT / "workflow/scripts/manifest.py"),
        "--manifest", "m.parquet", "--rejected", "r.parquet", "--shard", "0",
        "--settings", json.dumps(settings), "--compute", Compute().model_dump_json(), "--log", "m.log",
    ]  # fmt: skip
    subprocess.run(command, cwd=world, check=True, capture_output=True)
    rows = tables.read(world / "m.parquet").to_pylist()
    assert {(row["class"], row["path"]) for row in rows} == {(e.class_name, e.path) for e in entries}
    assert not list(world.rglob("owned"))


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("x" * 247 + ".parquet")  # 255 bytes, as long as names can be
    tables.write(path, "rejected", {"path": ["a"], "reason": ["b"]}, "lineage")
    assert tables.lineage_of(path) == "lineage" and len(list(tmp_path.iterdir())) == 1


def test_hostile_class_names_in_graphml():
    names = [*NAMES, "\x00\x08\ud800\uffff"]
    one = {"layer": "classes", "kind": "class", "members": None, "inner_cosine": None}
    nodes = [{**one, "concept": i, "name": name} for i, name in enumerate(names)]
    out = io.StringIO()
    write_graphml(out, nodes, [])
    space = "{http://graphml.graphdrawing.org/xmlns}"
    found = [node.text for node in ElementTree.fromstring(out.getvalue()).iterfind(f".//{space}data[@key='node_name']")]
    assert found[0] == names[0] and found[1] == names[1] and len(found) == len(names)
    assert found[-1] == "\ufffd" * 4


def test_messages_stay_one_plain_line():
    for name in NAMES:
        line = one_line(f"image {name} is bad")
        assert line.isprintable() and "\n" not in line and "\x1b" not in line


def config(**changes):
    return load({"layers": ["layer1.0"], **changes})


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "a/b",
        "a;touch owned",
        "a b",
        "$(x)",
        "{layer}",
        "-rf",
        ".hidden",
        "a\nb",
        "'",
        "x" * 200,
        "",
    ],
)
def test_layers_with_hostile_names_are_refused(name):
    with pytest.raises(UserError, match="cannot name a layer"):
        config(layers=[name])


@pytest.mark.parametrize("output", ["a b", "x'; touch owned; '", "$(touch owned)", "{x}", "-rf", "a\nb", "", "\u202ea"])
def test_an_output_folder_with_a_hostile_name_is_refused(output):
    with pytest.raises(UserError, match=r"^output: "):
        config(output=output)


def test_ordinary_outputs_pass():
    for output in ("results", "../results-2", "/data/me@lab/run=1,a+b", "ergebnisse/größe"):
        assert config(output=output).output == output


@pytest.mark.parametrize("classes", [["../a"], ["a", "/etc"], ["a", "a\x00"]])
def test_classes_are_names_and_no_paths(tmp_path, classes):
    """A class that is no folder has no images; nothing outside the folder of images is looked at."""
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    for folder in (tmp_path / "images/a", tmp_path / "a"):
        Image.new("RGB", (8, 8)).save(folder / "1.png")
    try:
        found = labelled(tmp_path / "images", classes)
    except UserError as error:
        assert "is not listed" in str(error)
    else:
        assert [entry.path for entry in found] == ["a/1.png"]


def test_a_bomb_is_listed_as_rejected(tmp_path):
    """Small PNGs that claim 2.5 gigapixels, or only 2 megapixels, or whose text would fill 200 MB; an endless pipe."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    folder = tmp_path / "images/a"
    folder.mkdir(parents=True)
    start = b"\x89PNG\r\n\x1a\n"
    header = lambda side: chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))  # noqa: E731
    for name, side in (("pixels", 50000), ("more", 1500)):
        pixels = chunk(b"IDAT", zlib.compress(bytes(side * (3 * side + 1) if side < 9999 else 9)))
        (folder / f"{name}.png").write_bytes(start + header(side) + pixels + chunk(b"IEND", b""))
    os.mkfifo(folder / "pipe.png")
    text = chunk(b"zTXt", b"x\x00\x00" + zlib.compress(bytes(200 * 2**20), 9))
    pixels = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    (folder / "text.png").write_bytes(start + header(8) + text + pixels + chunk(b"IEND", b""))
    Image.new("RGB", (8, 8)).save(folder / "good.png")
    settings = {
        "source": str(tmp_path / "images"), "shards": 1, "limit_per_class": None, "classes": None, "max_pixels": 10**6,
        "grouped": False, "drawn": False, "channels": 3, "resize": None,
    }  # fmt: skip
    arguments = Namespace(
        settings=settings, shard="0", manifest=tmp_path / "m.parquet", rejected=tmp_path / "r.parquet", classes=None,
        lineage="",
        compute=config().compute,
    )  # fmt: skip
    script("manifest").main(arguments)
    rejected = {row["path"]: row["reason"] for row in tables.read(arguments.rejected).to_pylist()}
    assert set(rejected) == {"a/pixels.png", "a/more.png", "a/text.png", "a/pipe.png"}
    assert "images.max_pixels" in rejected["a/pixels.png"] and "1500x1500 pixels" in rejected["a/more.png"]
    assert rejected["a/pipe.png"] == "no file, but a device or a pipe"


def test_links_that_lead_round_end(tmp_path):
    (tmp_path / "images/a/deep").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "images/a/1.png")
    (tmp_path / "images/a/deep/up").symlink_to(tmp_path / "images")
    (tmp_path / "images/a/self.png").symlink_to(tmp_path / "images/a/self.png")
    (tmp_path / "images/b").symlink_to(tmp_path / "images/a")
    listed = members(tmp_path / "images", 0, 1)
    assert [entry.path for entry in listed if entry.size >= 0] == ["a/1.png", "b/1.png"]


def test_a_pickled_checkpoint_is_not_run(tmp_path, monkeypatch):
    """Neither through a plain pickle nor inside of torch's own archive."""
    import torch

    from gigraph.model.models import load_model

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"trap\.pth"):
        load_model("menagerie", weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "owned").exists()


def test_planning_does_not_follow_hostile_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for weights in ("../{x}.pth", "a\n.pth", "'; touch owned; '.pth"):
        plan = Plan(config(model={"source": "menagerie", "weights": weights}), ROOT / "workflow/scripts")
        with pytest.raises(UserError, match="there is no file"):
            _ = plan.model_files
