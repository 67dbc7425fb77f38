"""Listing, decoding and preprocessing of image files."""

import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from gigraph.errors import UserError
from gigraph.hashing import image_id
from gigraph.images import imagenet, listing, preprocessing
from gigraph.images.brightness import Seen, remarks
from gigraph.images.chance import cause, displaced
from gigraph.images.decoding import Unreadable, brightest, decode, decoded, size_of, visible
from gigraph.images.listing import PASSED_OVER, UNREAD, labelled, left_out, listing_digests, output_names, scan
from gigraph.images.preprocessing import Preprocessing, batches
from gigraph.model.models import preset_of
from gigraph.planning.config import load
from processes import wait_for


def picture(width=40, height=30, seed=0):
    """A smooth picture that tells its corners apart: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    blue = np.full_like(x, 40 + seed)
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, blue], 2).astype(np.uint8))


def folder(root, files, make=True):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if make:
            picture().save(path) if path.suffix in {".png", ".jpg"} else path.write_text("note")
        else:
            path.touch()
    return root


def refused(call, *words):
    """Assert that a call raises a UserError of one line that holds the words."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400, message
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"


# ---- listing -----------------------------------------------------------------------------------------------


def test_class_folders(tmp_path):
    folder(
        tmp_path,
        ["b/2.png", "b/10.JPG", "a/deep/er/x.jpg", "a/.hidden.png", ".git/y.png", "a/notes.txt"],
        False,
    )
    entries = scan(tmp_path)
    assert [(e.path, e.class_name, e.label) for e in entries] == [
        ("a/deep/er/x.jpg", "a", 0),
        ("b/10.JPG", "b", 1),
        ("b/2.png", "b", 1),
    ]
    assert [e.image_id for e in entries] == [image_id(e.path) for e in entries]


def test_a_flat_folder_and_all_suffixes(tmp_path):
    names = [f"x.{s}" for s in ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "PNG")]
    folder(tmp_path, [*names, "x.pdf"], False)
    entries = scan(tmp_path)
    assert {e.path for e in entries} == set(names)
    assert {(e.class_name, e.label) for e in entries} == {(None, -1)}


def test_links_are_followed_but_not_round(tmp_path):
    folder(tmp_path / "set", ["a/1.png"], False)
    folder(tmp_path / "elsewhere", ["2.png"], False)
    (tmp_path / "set/a/round").symlink_to(tmp_path / "set")
    (tmp_path / "set/a/self").symlink_to(tmp_path / "set/a")
    (tmp_path / "set/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/b/broken.png").symlink_to(tmp_path / "nothing.png")
    listed = [(e.path, e.size) for e in scan(tmp_path / "set")]
    assert listed == [("a/1.png", 0), ("b/2.png", 0), ("b/broken.png", -1)]


def test_folders_that_are_refused(tmp_path, monkeypatch):
    refused(lambda: scan(tmp_path / "none"), "none", "no folder", "correct the path")
    (tmp_path / "file.png").touch()
    refused(lambda: scan(tmp_path / "file.png"), "file.png is a file")
    (tmp_path / "empty").mkdir()
    refused(lambda: scan(tmp_path / "empty"), "empty holds no images", "jpg")
    folder(tmp_path / "set", ["a/1.png", "b/readme.txt"], False)
    refused(lambda: scan(tmp_path / "set"), "class folder b", "holds no images")
    folder(tmp_path / "mixed", ["a/1.png", "2.png"], False)
    refused(lambda: scan(tmp_path / "mixed"), "2.png", "beside class folders (a)")
    folder(tmp_path / "twins", ["a/1.png", "a/2.png"], False)
    monkeypatch.setattr(listing, "image_id", lambda path: 7)
    refused(lambda: scan(tmp_path / "twins"), "a/1.png and a/2.png have the same id", "rename")


@pytest.mark.skipif(sys.platform != "linux", reason="bytes in names")
def test_a_name_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    os.close(os.open(os.fsencode(tmp_path / "a") + b"/\xff.png", os.O_CREAT))
    refused(lambda: scan(tmp_path), "UTF-8", "udcff")


def test_digests_tell_which_shard_changed(tmp_path):
    folder(tmp_path, [f"a/{i}.png" for i in range(40)], False)
    before = scan(tmp_path)
    digests = listing_digests(before, 4)
    assert digests == listing_digests(reversed(before), 4)
    assert len(set(digests)) == 4
    touched = before[11]

    def grow(path):
        stamp = path.stat().st_mtime_ns
        path.write_text("longer")
        os.utime(path, ns=(stamp, stamp))

    for change in (grow, lambda p: os.utime(p, ns=(1, 1)), lambda p: p.unlink()):
        change(tmp_path / touched.path)
        after = listing_digests(scan(tmp_path), 4)
        assert [i for i in range(4) if after[i] != digests[i]] == [touched.image_id % 4]
        digests = after


def test_listing_opens_no_file_and_needs_no_torch(tmp_path, monkeypatch):
    for c in range(3):
        (tmp_path / f"c{c}").mkdir()
        for i in range(5):
            os.close(os.open(f"{tmp_path}/c{c}/{i}.jpg", os.O_CREAT))
    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", None)
        patched.setattr("io.open", None)
        patched.setattr(os, "open", None)
        assert len(listing_digests(scan(tmp_path), 8)) == 8
    code = "import sys, gigraph.images.listing; print({'torch', 'torchvision', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_an_output_without_a_class_folder_has_a_number(tmp_path):
    folder(tmp_path, ["b/0.png", "a/0.png"], False)
    assert output_names(tmp_path, 2) == ["a", "b"]
    assert output_names(tmp_path, 4, ["b", "x", "a"]) == ["b", "x", "a", "class 3"]
    with pytest.raises(UserError, match="2 class folders, but the model has 1 outputs"):
        output_names(tmp_path, 1)
    folder(tmp_path / "flat", ["0.png"], False)
    assert output_names(tmp_path / "flat", 2) == ["class 0", "class 1"]
    assert output_names(tmp_path / "flat", 2, ["cat"]) == ["cat", "class 1"]


def test_fewer_class_folders_than_outputs_must_say_which_they_are(tmp_path):
    folder(tmp_path, ["b/0.png", "a/0.png"], False)
    refused(lambda: output_names(tmp_path, 4), "2 class folders", "4 outputs", "images.classes", "{a: 0}")
    # By number they may.
    given = load({"layers": ["x"], "images": {"classes": {"b": 3, "a": 1}}}).images.classes
    assert output_names(tmp_path, 5, given) == ["class 0", "a", "class 2", "b", "class 4"]
    assert {entry.class_name: entry.label for entry in labelled(tmp_path, given)} == {"a": 1, "b": 3}


def test_some_of_imagenets_classes_are_known_by_their_wordnet_ids(tmp_path, caplog):
    pytest.importorskip("timm")
    folder(tmp_path, ["n02123045/0.png", "n01443537_goldfish/0.png", "n15075141_toilet_tissue/0.png"], False)
    for classes in (None, "imagenet"):
        names = output_names(tmp_path, 1000, classes)
        assert len(set(names)) == 1000
        assert (names[0], names[1], names[281], names[999]) == (
            "n01440764_tench", "n01443537_goldfish", "n02123045", "n15075141_toilet_tissue",
        )  # fmt: skip
    # A model of these three alone has them in order.
    assert output_names(tmp_path, 3)[0] == "n01443537_goldfish"
    refused(lambda: output_names(tmp_path, 10), "3 class folders for the model's 10 outputs", "images.classes")
    refused(lambda: output_names(tmp_path, 10, "imagenet"), "imagenet has 1000 classes", "10 outputs")
    folder(tmp_path, ["n02123045_tabby/0.png"], False)
    refused(lambda: output_names(tmp_path, 1000), "n02123045 and n02123045_tabby", "merge")
    folder(tmp_path / "other", ["n00000001/0.png"], False)
    refused(lambda: output_names(tmp_path / "other", 1000), "n00000001", "WordNet ids")
    folder(tmp_path / "flat", ["0.png"], False)
    assert output_names(tmp_path / "flat", 1000, "imagenet")[207] == "n02099601_golden_retriever"
    assert output_names(tmp_path / "flat", 1000)[207] == "class 207"


def test_wordnet_ids_without_timm(tmp_path, monkeypatch):
    folder(tmp_path, ["n02123045/0.png", "n01443537_goldfish/0.png"], False)

    def missing(name):
        raise imagenet.PackageNotFoundError(name)

    monkeypatch.setattr(imagenet, "distribution", missing)
    refused(lambda: output_names(tmp_path, 1000), "uv sync --extra imagenet", "images.classes")


def test_every_picture_counts_and_what_is_passed_over_is_listed(tmp_path):
    names = ["a/1.jpg", "a/2.avif", "a/3.jfif", "a/4.HEIC", "a/5.pgm", "a/6.jp2", "a/notes.txt", "a/noending",
             "a/@eaDir/1.jpg", "b/1.png", "@eaDir/x.jpg", "__MACOSX/a/1.jpg", "lost+found/9.jpg",
             "b/.ipynb_checkpoints/1.png", ".ipynb_checkpoints/1.png", "Thumbs.db"]  # fmt: skip
    folder(tmp_path, names, False)
    assert [(e.path, e.label) for e in scan(tmp_path)] == [
        *((f"a/{name}", 0) for name in ("1.jpg", "2.avif", "3.jfif", "4.HEIC", "5.pgm", "6.jp2")), ("b/1.png", 1),
    ]  # fmt: skip
    reasons = dict(left_out(tmp_path))
    assert set(reasons) == {
        "@eaDir/",
        "__MACOSX/",
        "lost+found/",
        "a/@eaDir/",
        "a/notes.txt",
        "a/noending",
        "Thumbs.db",
    }
    assert all(reason.startswith(PASSED_OVER) for reason in reasons.values()) and ".txt" in reasons["a/notes.txt"]


@pytest.mark.parametrize("suffix", ["avif", "jfif", "pgm", "jp2", "tga"])
def test_pictures_of_rarer_suffixes_are_read(tmp_path, suffix):
    file = tmp_path / f"x.{suffix}"
    grey = picture().convert("L") if suffix == "pgm" else picture()
    grey.save(file, format="jpeg" if suffix == "jfif" else None)
    assert np.abs(pixels(file) - np.asarray(grey.convert("RGB"), int)).max() < 40


def test_pictures_that_are_not_read_say_so_even_where_a_preview_is_in_them(tmp_path):
    for suffix in UNREAD:
        picture().save(tmp_path / f"x{suffix}", format="tiff")
        with pytest.raises(Unreadable, match=f"{suffix} pictures are not read; save"):
            decode(tmp_path / f"x{suffix}")


def test_a_class_without_images_names_what_it_holds(tmp_path):
    folder(tmp_path, ["a/1.png", "b/1.mp4", "b/x"], False)
    refused(lambda: scan(tmp_path), "class folder b", ".mp4", "without a suffix")


def test_parts_of_a_data_set_are_no_classes(tmp_path):
    folder(tmp_path, ["train/a/1.png", "train/b/2.png", "Val/a/3.png"], False)
    refused(lambda: labelled(tmp_path), "Val, train", "images.classes", str(tmp_path / "Val"))
    assert {e.label for e in labelled(tmp_path, ["train", "Val"])} == {0, 1}  # asked for
    assert {e.label for e in labelled(tmp_path, None, True)} == {-1}
    folder(tmp_path / "vehicles", ["train/1.png", "car/1.png"], False)
    assert len(labelled(tmp_path / "vehicles")) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train2017/a/1.png", "val2017/a/1.png"], ["train2017, val2017", "parts of a data set", "images.classes"]),
        (["fold0/a/1.png", "fold1/a/1.png"], ["fold0, fold1", "parts of a data set"]),
        (["train_1/a/1.png", "train_2/a/1.png", "extra/1.png"], ["train_1, train_2", "parts of a data set"]),
        (["train/a/1.png", "images/1.png"], ["(train)", "parts of a data set"]),
        (["set/a/1.png", "set/b/1.png"], ["one folder, set", "/set if its folders are the classes"]),
        (["I/Data/CLS/x/a/1.png", "I/Data/CLS/x/b/c/1.png"], ["one folder, I", "/I/Data/CLS/x if its folders"]),
        (["I/Data/a/1.png"], ["one folder, I", "/I/Data if its folders"]),
        (["caf\u00e9/1.png", "cafe\u0301/1.png"], ["two class folders 'caf\u00e9'", "merge"]),
    ],
)
def test_folders_that_hold_the_classes_are_none(tmp_path, files, words):
    """They were classes without a word where there are as many as the model has outputs."""
    folder(tmp_path, files)
    refused(lambda: labelled(tmp_path), *words)


@pytest.mark.parametrize(
    "files",
    [["test/1.png", "real/1.png"], ["part1/1.png", "part2/1.png"], ["cat/siam/1.png", "dog/pug/1.png"],
     ["a/train/1.png", "b/train/1.png"], ["n01440764/x/1.png"], ["a/1.png"]],
)  # fmt: skip
def test_folders_that_may_be_classes_are(tmp_path, files):
    assert len(labelled(folder(tmp_path, files))) == len(files)


def test_accents_are_the_same_however_they_are_written(tmp_path):
    folder(tmp_path, ["cafe\u0301/1.png", "a/1.png"])
    assert [entry.label for entry in labelled(tmp_path, ["caf\u00e9", "a"])] == [1, 0]


def test_numbers_that_yaml_reads_otherwise_say_so(tmp_path):
    folder(tmp_path, ["001/1.png", "010/1.png"])
    refused(lambda: labelled(tmp_path, ["1", "8"]), "folder 001", "quotes")


def test_where_two_readers_sort_classes_differently_a_note_says_so(tmp_path, caplog):
    folder(tmp_path, [f"{number}/0.png" for number in range(1, 11)], False)
    with caplog.at_level("INFO", logger="gigraph"):
        assert output_names(tmp_path, 10)[:3] == ["1", "10", "2"]
        assert "note: class folders are taken in the order of their text (1, 10, 2, ...)" in caplog.text
        assert "timm's reader takes 1, 2, 3" in caplog.text
        caplog.clear()
        output_names(tmp_path, 10, [str(number) for number in range(1, 11)])
        folder(tmp_path / "plain", ["a/0.png", "b/0.png"], False)
        output_names(tmp_path / "plain", 2)
        assert not caplog.text


def test_the_order_that_is_named_is_that_of_timms_reader(tmp_path):
    reader = pytest.importorskip("timm.data.readers.class_map")
    del reader
    from timm.data.readers.reader_image_folder import find_images_and_targets

    names = ["10", "9", "a2", "a10", "B1", "c"]
    folder(tmp_path, [f"{name}/0.png" for name in names], False)
    _, theirs = find_images_and_targets(str(tmp_path))
    assert sorted(names, key=listing._naturally) == sorted(theirs, key=theirs.get)


@pytest.mark.parametrize(
    ("labels", "predicted", "words"),
    [
        ([0, 0, 1, 1, 2, 2], [1, 1, 2, 2, 0, 0], "images.classes"),
        ([0, 0, 1, 1, 2, 2], [1, 1, 1, 1, 1, 1], "mean and std"),
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2, 2, 1, 0, 1, 0, 2], "model.weights"),
    ],
)
def test_the_likely_cause_of_an_accuracy_near_chance(labels, predicted, words):
    assert words in cause(np.array(labels), np.array(predicted))


def test_classes_at_other_outputs_are_told_from_classes_that_are_confused():
    labels = np.repeat(np.arange(6), 10)
    moved = labels.copy()
    for label, output in ((2, 3), (3, 4), (4, 2)):  # as after class 4 was called otherwise
        moved[labels == label] = output
    moved[::7] = 0
    assert displaced(labels, moved, 5) == [2, 3, 4] and displaced(labels, moved, 11) == []
    confused = labels.copy()
    confused[(labels == 1) | (labels == 3)] += 1  # all of them taken for their neighbours, which are recognised
    assert displaced(labels, confused, 5) == []
    unknown = labels.copy()
    unknown[labels == 1], unknown[labels == 3] = 8, 9  # both taken for what has no folder, a twin or anything
    assert displaced(labels, unknown, 5) == []
    assert displaced(labels, labels + 1, 5) == [0, 1, 2, 3, 4, 5], "the first folder is missing"
    swapped = labels.copy()
    swapped[labels == 5] = 0
    assert displaced(labels, swapped, 5) == [], "one class alone lies nowhere else"


# ---- decoding ----------------------------------------------------------------------------------------------


def pixels(path, **kw):
    image = decode(path, **kw)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def test_truncated_and_false_images(tmp_path):
    for suffix in ("jpg", "png", "webp", "gif", "bmp", "tiff"):
        file = tmp_path / f"x.{suffix}"
        picture(200, 150).save(file)
        assert decode(file).size == (200, 150)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        with pytest.raises(Unreadable) as caught:
            decode(file)
        assert "\n" not in str(caught.value) and str(caught.value)
    (tmp_path / "text.jpg").write_text("I am no picture")
    (tmp_path / "empty.jpg").touch()
    for name, reason in {
        "text.jpg": "not an image",
        "empty.jpg": "empty file",
        "gone.jpg": "no such file",
    }.items():
        with pytest.raises(Unreadable, match=reason):
            decode(tmp_path / name)


def test_bombs_are_rejected_before_they_are_decoded(tmp_path, recwarn):
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(Unreadable, match=r"images\.max_pixels"):
        decode(tmp_path / "bomb.png")
    Image.new("1", (11000, 10000)).save(tmp_path / "big.png")
    with pytest.raises(Unreadable, match=r"11000x10000 pixels, above images.max_pixels \(100000000\)"):
        decode(tmp_path / "big.png")
    picture().save(tmp_path / "small.png")
    with pytest.raises(Unreadable, match="40x30"):
        decode(tmp_path / "small.png", max_pixels=1199)
    assert decode(tmp_path / "small.png", max_pixels=1200).size == (40, 30)


def test_exif_turns_the_image_upright(tmp_path):
    upright = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    upright.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=98, subsampling=0, exif=exif)
    assert np.abs(pixels(tmp_path / "turned.jpg") - np.asarray(upright)).max() <= 8


def test_grey_in_8_and_16_bits(tmp_path):
    ramp = np.linspace(0, 255, 1200).reshape(30, 40).round().astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "grey16.tiff")
    for name in ("grey.png", "grey16.png", "grey16.tiff"):
        np.testing.assert_array_equal(pixels(tmp_path / name), np.repeat(ramp[..., None], 3, 2))
    Image.fromarray(ramp.astype(np.int32) * 70000).save(tmp_path / "int32.tiff")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tiff")
    for name in ("int32.tiff", "float.tiff"):
        with pytest.raises(Unreadable, match="white is unknown"):
            decode(tmp_path / name)


def test_cmyk_palette_and_binary(tmp_path):
    picture().convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98, subsampling=0)
    assert np.abs(pixels(tmp_path / "cmyk.jpg") - np.asarray(picture())).max() <= 10
    palette = picture().quantize(64)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(pixels(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    Image.new("1", (4, 4), 1).save(tmp_path / "binary.png")
    assert (pixels(tmp_path / "binary.png") == 255).all()


def test_transparency_is_laid_on_white(tmp_path):
    red = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    red.putpixel((1, 0), (200, 0, 0, 51))
    red.save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(pixels(tmp_path / "rgba.png"), [[[200, 0, 0], [244, 204, 204]]])
    grey = Image.new("LA", (2, 1), (0, 255))
    grey.putpixel((1, 0), (0, 0))
    grey.save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels(tmp_path / "la.png"), [[[0] * 3, [255] * 3]])
    holes = Image.new("P", (2, 1))
    holes.putpalette([10, 20, 30, 40, 50, 60])
    holes.putpixel((1, 0), 1)
    holes.save(tmp_path / "p.png", transparency=1)
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), [[[10, 20, 30], [255] * 3]])


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(tmp_path / "a.gif")[0, 0], [255, 0, 0])


def test_the_range_that_a_tiff_names_is_white(tmp_path):
    """A 12-bit picture in 16 bits came out nearly black."""
    values = (np.mgrid[0:30, 0:40][1] * 4095 // 39).astype(np.uint16)
    image, file = Image.fromarray(values), tmp_path / "x.tif"
    image.save(file, tiffinfo={281: 4095})
    np.testing.assert_allclose(pixels(file)[0, :, 0], values[0] / 4095 * 255, atol=0.51)
    np.testing.assert_allclose(decode(file, channels=1), values / 4095 * 255, atol=0.51)
    image.save(file)
    assert pixels(file).max() == 16 and "12 bits" in remarked(file)  # nothing says so: a note does
    image.save(file, tiffinfo={281: 1000})  # which is not true
    assert pixels(file).max() == 16
    Image.fromarray((values * 16).astype(np.uint16)).save(file)
    assert pixels(file).max() >= 254 and not remarked(file)
    pages = [Image.fromarray(values // (page + 1)) for page in range(4)]
    pages[0].save(file, save_all=True, append_images=pages[1:], tiffinfo={281: 4095})
    np.testing.assert_allclose(decode(file, channels=4)[0, :, 1], values[0] // 2 / 4095, atol=1e-6)
    np.save(tmp_path / "x.npy", np.stack([values] * 5, 2))
    assert "12 bits" in remarked(tmp_path / "x.npy", channels=5)


def remarked(*files, channels=3):
    found = [(file.name, *decoded(file, channels=channels)) for file in files]
    return " ".join(remarks([Seen(name, brightest(picture), kind) for name, picture, kind in found]))


def rgb_of_16_bits(file, values):
    """Write a PNG of three 16-bit channels, which Pillow cannot."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [9, 10, 12, 13, 14, 15, 16])
@pytest.mark.parametrize("part", [1, 0.7])
@pytest.mark.parametrize("suffix", ["png", "tif", "npy", "rgb"])
def test_pictures_of_few_bits_in_16_are_remarked(tmp_path, bits, part, suffix):
    """No file tells their range, and 13 to 15 bits came out dark without a word."""
    values = (np.mgrid[0:30, 0:40][1] * part * (2**bits - 1) / 39).astype(np.uint16)
    file = tmp_path / f"x.{suffix.replace('rgb', 'png')}"
    if suffix == "npy":
        np.save(file, values[..., None])
    elif suffix == "rgb":
        rgb_of_16_bits(file, np.stack([values] * 3, 2))
    else:
        Image.fromarray(values).save(file)
    said = remarked(file, channels=1 if suffix == "npy" else 3)
    assert (bits < 16) == ("and come out dark" in said)
    if bits > 11 and suffix != "rgb":  # the eight bits that are left of fewer do not tell
        assert (f"as those of {bits} bits do" in said) == (bits < 16)
    Image.fromarray((values // 256).astype(np.uint8)).save(tmp_path / "8.png")
    assert not remarked(tmp_path / "8.png")  # a dark picture of 8 bits is dark


def test_one_dark_picture_among_others_of_16_bits_is_named(tmp_path):
    values = np.mgrid[0:30, 0:40][1]
    for name, white in (("dark.png", 4095), ("bright.png", 65535)):
        Image.fromarray((values * white // 39).astype(np.uint16)).save(tmp_path / name)
    assert "1 images are nearly black" in (said := remarked(tmp_path / "dark.png", tmp_path / "bright.png"))
    assert "dark.png" in said
    assert not remarked(tmp_path / "bright.png")


def test_real_numbers_of_0_to_255_are_remarked(tmp_path):
    """They are taken as they are, and the usual mean and std are for 0 to 1."""
    for top in (1, 255):
        np.save(tmp_path / f"{top}.npy", np.linspace(0, top, 12, dtype=np.float32).reshape(2, 2, 3))
    assert "up to 255 (255.npy)" in remarked(tmp_path / "255.npy", tmp_path / "1.npy")
    assert not remarked(tmp_path / "1.npy")


def test_the_transparent_number_of_a_16_bit_picture_is_white(tmp_path):
    values = np.array([[0, 1000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png", transparency=1000)
    assert pixels(tmp_path / "x.png")[0, :, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"<!DOCTYPE html>", "a web page"),
     (b"some text", "not an image"), (b"", "empty file")],
)  # fmt: skip
def test_what_is_no_picture_says_what_it_is(tmp_path, content, words):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(Unreadable, match=words):
        decode(tmp_path / "x.jpg")
    with pytest.raises(Unreadable, match=r"^a folder$"):
        decode(tmp_path)


# ---- preprocessing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (37, 64), (256, 256)])
@pytest.mark.parametrize("interpolation, antialias", [("bilinear", True), ("bicubic", True), ("bilinear", False)])
def test_as_torchvisions_own_preset(size, interpolation, antialias):
    image = picture(*size)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    from torchvision.transforms import InterpolationMode

    theirs = ImageClassification(
        crop_size=56,
        resize_size=61,
        mean=mean,
        std=std,
        interpolation=InterpolationMode(interpolation),
        antialias=antialias,
    )
    ours = Preprocessing(61, 56, mean, std, interpolation, antialias)
    subject = image if antialias else torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    level = 1e-6 if antialias else 1.01 / 255 / 0.224  # without antialias, a grey level's rounding
    torch.testing.assert_close(ours.stack([ours.display(image)])[0], theirs(subject), rtol=0, atol=level)
    assert ours.display(image).size == ours.output_size(image.size) == (56, 56)


def timms_presets(kind_of):
    """One model of each kind of preset in timm's registry: that with the smallest input."""
    timm = pytest.importorskip("timm")
    from timm.data import resolve_data_config

    found = {}
    for name in timm.list_models():
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        found.setdefault(kind_of(config), []).append((max(config["input_size"]), name, config))
    return [min(many)[1:] for many in found.values()]


def as_timms(image, name, config):
    """Assert that a preset gives what timm's own transform gives."""
    from timm.data import create_transform

    ours = Preprocessing.from_preset(preset_of(f"timm:{name}"))
    found = ours.stack([ours.display(image)])[0]
    torch.testing.assert_close(found, create_transform(**config)(image), rtol=0, atol=1e-5, msg=name)
    assert ours.output_size(image.size) == tuple(config["input_size"][:0:-1])


def way_of(config):
    crop, sides = config["crop_pct"], config["input_size"][1:]
    return config["crop_mode"], (crop > 1) - (crop < 1), config["interpolation"], len(set(sides))


@pytest.mark.parametrize("size", [(500, 300), (300, 500), (90, 40)])
def test_as_timms_own_transform_by_every_kind_of_preset(size):
    presets = timms_presets(way_of)
    assert {way_of(config)[:2] for _, config in presets} == {
        ("center", -1), ("center", 0), ("center", 1), ("squash", -1), ("squash", 0), ("border", 0),
    }  # fmt: skip
    for name, config in presets:
        as_timms(picture(*size), name, config)


def test_an_array_is_framed_as_a_picture_is():
    ours = Preprocessing(resize=(40, 40), crop=(40, 40), mean=(0.2, 0.4, 0.6), std=(1, 1, 1), way="border", pads=True)
    array = ours.display(np.asarray(picture(80, 41), np.float32) / 255)
    assert np.abs(array * 255 - np.asarray(ours.display(picture(80, 41)))).max() < 1


@pytest.mark.slow  # half a minute: hundreds of pictures resized to up to 1,024 pixels
def test_as_the_registries_own_transforms_by_every_preset():
    from torchvision import models

    image = picture(500, 300)
    for name, config in timms_presets(lambda config: str([*way_of(config), config["crop_pct"], config["input_size"]])):
        as_timms(image, name, config)
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            ours = Preprocessing.from_preset(preset_of(f"torchvision:{name}", weights.name))
            torch.testing.assert_close(ours.stack([ours.display(image)])[0], weights.transforms()(image), msg=name)


def test_the_box_of_a_framed_image_goes_beyond_it():
    border = Preprocessing(resize=(40, 40), crop=(40, 40), way="border", pads=True)
    assert border.crop_box((80, 40)) == (0, -20, 80, 60)
    squash = Preprocessing(resize=(40, 20), crop=(40, 20), way="squash", pads=True)
    assert squash.crop_box((80, 40)) == (0, 0, 80, 40)


def test_what_the_user_sets_means_the_shorter_side_and_the_centre():
    preset = preset_of("timm:coat_lite_medium_384")
    ours = Preprocessing.from_preset(preset, resize=400)
    assert (ours.resize, ours.window, ours.way) == (400, (384, 384), "center")
    tall = dict(preset, resize=(1024, 768), crop=(1024, 768))
    refused(lambda: Preprocessing.from_preset(tall, crop=700), "768x1024", "set resize and crop both")


@pytest.mark.parametrize("size", [(2, 20000), (30000, 1)])
def test_a_thin_picture_is_refused_before_it_fills_the_memory(size):
    p = Preprocessing(224, 224)
    refused(lambda: p.display(Image.new("RGB", size), "image thin.png"), "thin.png", "too thin", f"{size[0]}x{size[1]}")
    assert p.display(Image.new("RGB", (20, 4000))).size == (224, 224)


def test_display_is_what_the_network_sees_before_normalisation():
    p = Preprocessing(24, 20, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    x = p.stack([p.display(picture())])[0]
    shown = np.asarray(p.display(picture())).transpose(2, 0, 1) / 255
    expected = (shown - np.array(p.mean)[:, None, None]) / np.array(p.std)[:, None, None]
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert x.dtype == torch.float32


@pytest.mark.parametrize("size", [(400, 300), (150, 333)])
@pytest.mark.parametrize("resize, crop", [(100, 80), (100, None), (None, 120), (None, None)])
def test_crop_box_covers_the_pixels_that_are_seen(size, resize, crop):
    image = picture(*size)
    p = Preprocessing(resize, crop)
    left, top, right, bottom = p.crop_box(image.size)
    shown = p.display(image)
    cut = image.resize(shown.size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    # The ramps differ by a full step between pixels of the small picture, so a shift by one would show.
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(cut)).max() <= 1
    assert (right - left) / (bottom - top) == pytest.approx(shown.width / shown.height, rel=0.02)


# ---- other numbers of channels -----------------------------------------------------------------------------


def stack(channels, height=30, width=40, kind=np.uint8):
    """An array in which no two channels, rows and columns are alike."""
    values = np.random.default_rng(channels).uniform(0, 1, (height, width, channels))
    return values.astype(kind) if np.dtype(kind).kind == "f" else (values * np.iinfo(kind).max).round().astype(kind)


def test_grey_is_read_from_any_image(tmp_path):
    ramp = np.linspace(0, 255, 1200).reshape(30, 40).round().astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    Image.fromarray(ramp).convert("RGB").save(tmp_path / "rgb.png")
    np.save(tmp_path / "array.npy", ramp)
    for name in ("grey.png", "grey16.png", "rgb.png"):
        grey = decode(tmp_path / name, channels=1)
        assert grey.mode == "L" and (np.asarray(grey) == ramp).all()
        x = Preprocessing(channels=1).stack([grey])
        np.testing.assert_allclose(x, ramp[None, None] / 255, atol=1e-6)
    np.testing.assert_allclose(decode(tmp_path / "array.npy", channels=1), ramp[..., None] / 255, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_arrays_are_read_channels_last_or_first(tmp_path, channels, kind):
    values = stack(channels, kind=kind)
    wanted = values / (np.iinfo(kind).max if values.dtype.kind == "u" else 1)
    np.save(tmp_path / "last.npy", values)
    np.save(tmp_path / "first.npy", values.transpose(2, 0, 1))
    for name in ("last.npy", "first.npy"):
        found = decode(tmp_path / name, channels=channels)
        assert found.dtype == np.float32 and size_of(found) == (40, 30)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        x = Preprocessing(mean=(0.5,) * channels, std=(0.25,) * channels).stack([found])
        np.testing.assert_allclose(x[0], (wanted.transpose(2, 0, 1) - 0.5) / 0.25, atol=1e-5)


def test_pages_of_a_tiff_are_channels_one_after_the_other(tmp_path):
    values = stack(5)
    colour, *more = Image.fromarray(values[..., :3]), *(Image.fromarray(values[..., i]) for i in (3, 4))
    colour.save(tmp_path / "rgb-and-two.tif", save_all=True, append_images=more)
    np.testing.assert_allclose(decode(tmp_path / "rgb-and-two.tif", channels=5), values / 255, atol=1e-6)
    deep = [Image.fromarray(stack(1, kind=np.uint16)[..., 0]), Image.fromarray(stack(2, kind=np.uint16)[..., 0])]
    deep[0].save(tmp_path / "deep.tif", save_all=True, append_images=deep[1:])
    found = decode(tmp_path / "deep.tif", channels=2)
    np.testing.assert_allclose(found[..., 1], np.asarray(deep[1]) / 65535, atol=1e-6)
    Image.fromarray(stack(4), "RGBA").save(tmp_path / "four.png")
    np.testing.assert_allclose(decode(tmp_path / "four.png", channels=4), stack(4) / 255, atol=1e-6)
    # Three grey pages are red, green and blue; of other stacks of pages RGB is the first, as ever.
    pages = [Image.fromarray(values[..., i]) for i in range(4)]
    for count in (3, 4):
        pages[0].save(tmp_path / f"{count}.tif", save_all=True, append_images=pages[1:count])
    np.testing.assert_allclose(decode(tmp_path / "3.tif"), values[..., :3] / 255, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "4.tif")), np.repeat(values[..., :1], 3, 2))


def test_arrays_and_pages_that_are_rejected(tmp_path):
    cases = {
        "shape": (np.zeros((30, 40, 3), np.uint8), r"\[30, 40, 3\], not \[H, W, 5\]"),
        "flat": (np.zeros((30, 40), np.uint8), "preprocessing.channels"),
        "int": (np.zeros((30, 40, 5), np.int32), "int32, whose white is unknown"),
        "nan": (np.full((30, 40, 5), np.nan, np.float32), "NaN"),
        "large": (np.zeros((400, 300, 5), np.uint8), "300x400 pixels.*max_pixels"),
        "empty": (np.zeros((0, 40, 5), np.uint8), "40x0"),
        "object": (np.array([[[{}]]]), "."),
    }
    for name, (array, reason) in cases.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        with pytest.raises(Unreadable, match=reason):
            decode(tmp_path / f"{name}.npy", 100_000, 5)
    (tmp_path / "text.npy").write_text("I am no array")
    whole = (tmp_path / "shape.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-100])
    (tmp_path / "none.npy").touch()
    for name, reason in {
        "text.npy": "no .npy array",
        "cut.npy": ".",
        "none.npy": "empty",
        "gone.npy": "no such",
    }.items():
        with pytest.raises(Unreadable, match=reason):
            decode(tmp_path / name, channels=3)
    Image.fromarray(stack(3)).save(tmp_path / "rgb.png")
    with pytest.raises(Unreadable, match=r"3 channels, where preprocessing\.channels is 5"):
        decode(tmp_path / "rgb.png", channels=5)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_channels_are_resized_and_cropped_as_those_of_a_picture(interpolation, antialias):
    p = Preprocessing(24, 20, interpolation=interpolation, antialias=antialias)
    image = picture(90, 60)
    seen = p.display(np.asarray(image, np.float32) / 255)
    assert seen.shape == (20, 20, 3)
    # A picture's channels are rounded to 8 bits, and bicubic ones cut off at black and white.
    assert np.abs(seen.clip(0, 1) - np.asarray(p.display(image)) / 255).max() <= 1.01 / 255


def test_what_is_shown_of_channels():
    values = stack(6, kind=np.float32)
    shown = np.asarray(visible(values))
    assert np.abs(shown / 255 - values[..., :3]).max() <= 0.5 / 255 + 1e-6
    two = np.asarray(visible(values[..., :2]))
    assert (two == two[..., :1]).all() and np.abs(two[..., 0] / 255 - values[..., 0]).max() <= 0.5 / 255 + 1e-6
    hounsfield = values * 3000 - 1000
    first = hounsfield[..., :3]
    spread = (first - first.min()) / (first.max() - first.min())
    assert np.abs(np.asarray(visible(hounsfield)) / 255 - spread).max() <= 0.5 / 255 + 1e-6
    assert visible(Image.new("L", (3, 2), 7)).getpixel((0, 0)) == (7, 7, 7)


def test_numbers_of_channels_must_agree():
    assert Preprocessing(mean=(0.5,)).channels == 1 and Preprocessing(mean=(0.5,)).std == (1.0,)
    assert Preprocessing().mean == (0.0, 0.0, 0.0)
    refused(
        lambda: Preprocessing.from_preset({"mean": (0, 0, 0), "std": (1, 1, 1)}, channels=1),
        "each channel (1)",
        "set both",
    )
    assert Preprocessing.from_preset({"mean": (0, 0, 0), "std": (1, 1, 1)}, mean=[0.1], std=[2]).mean == (0.1,)


def test_groups_are_no_classes(tmp_path):
    folder(tmp_path, ["young/a.png", "young/b.png", "old/c.npy"], False)
    entries = labelled(tmp_path, ["lower", "higher"], grouped=True)
    assert [(e.class_name, e.label) for e in entries] == [("old", -1), ("young", -1), ("young", -1)]
    assert len(listing.limited(entries, 1)) == 2  # one of each group


def test_settings_that_are_refused():
    refused(lambda: Preprocessing(32, 64), "preprocessing.crop (64)", "raise resize")
    refused(lambda: Preprocessing(interpolation="lanczos"), "lanczos", "bicubic")
    refused(lambda: Preprocessing(std=(1, 0, 1)), "std")
    refused(
        lambda: Preprocessing(None, 64).display(picture(), "image a.png"),
        "image a.png is 40x30",
        "resize to 64",
    )


def test_presets_and_what_overrides_them():
    preset = {
        "resize": 232,
        "crop": 224,
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 1],
        "interpolation": "bicubic",
    }
    p = Preprocessing.from_preset(preset, crop=200, resize=None)
    assert (p.resize, p.crop, p.mean, p.interpolation) == (232, 200, (0.1, 0.2, 0.3), "bicubic")
    assert Preprocessing.from_preset(None) == Preprocessing()


# ---- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_the_same_beside_numbers_of_another_kind(tmp_path, channels):
    """8 bits a channel, and floats of 0 to 1, in one batch."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, channels), np.uint8)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", (pixels / 255).astype(np.float32))
    way = Preprocessing(channels=channels, mean=[0.0] * channels, std=[1.0] * channels)
    (_, both), *_ = batches([(0, tmp_path / "a.png"), (1, tmp_path / "b.npy")], way, 2)
    torch.testing.assert_close(both[0], torch.from_numpy(pixels / 255).permute(2, 0, 1).float())
    torch.testing.assert_close(both[1], both[0])


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_keep_the_order(tmp_path, workers):
    listed = []
    for i in range(11):
        picture(seed=i).save(tmp_path / f"{i}.png")
        listed.append((100 + i, tmp_path / f"{i}.png"))
    found = list(batches(iter(listed), Preprocessing(), batch_size=4, workers=workers))
    assert [ids.tolist() for ids, _ in found] == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109, 110]]
    assert found[0][0].dtype == np.int64
    assert all(x.is_contiguous(memory_format=torch.channels_last) for _, x in found)
    everything = torch.cat([x for _, x in found])
    assert everything.shape == (11, 3, 30, 40)
    np.testing.assert_allclose(everything[:, 2, 0, 0], (40 + np.arange(11)) / 255, atol=1e-6)


def test_batches_decode_ahead_and_stop_when_left(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")
    seen = []

    def decoded(path, limit, channels):
        seen.append(threading.current_thread())
        return picture()

    monkeypatch.setattr(preprocessing, "decode", decoded)
    running = batches(((i, tmp_path / "a.png") for i in range(1000)), Preprocessing(), batch_size=5, workers=2)
    next(running)
    wait_for(lambda: len(seen) > 5)
    time.sleep(0.2)
    assert len(seen) <= 20
    assert threading.main_thread() not in seen
    running.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_batches_name_the_image_at_fault(tmp_path):
    picture().save(tmp_path / "a.png")
    picture(41).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_text("no picture")
    listed = [(i, tmp_path / f"{name}.png") for i, name in enumerate("abc")]
    refused(lambda: list(batches(listed[:2], Preprocessing())), "b.png", "41x30", "40x30", "preprocessing.resize")
    refused(lambda: list(batches(listed[:1], Preprocessing(), size=(32, 32))), "a.png", "40x30", "32x32")
    refused(lambda: list(batches(listed[2:], Preprocessing())), "c.png", "not an image")
    refused(lambda: list(batches(listed, Preprocessing(crop=35))), "a.png", "smaller than preprocessing.crop")
