"""The record of a run, what is whole, stale locks, the line of progress, and what jobs ask of a cluster."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gigraph.errors import UserError
from gigraph.planning import lineage as provenance
from gigraph.planning.config import load
from gigraph.planning.lineage import imported_beside, module_file
from gigraph.planning.plan import Plan
from gigraph.planning.resources import Sizes, claim, need
from gigraph.records.files import replacing
from gigraph.records.tables import lineage_of, read, write
from gigraph.running.cluster import cancel_orphans
from gigraph.running.progress import Overall, duration


def test_whole(tmp_path):
    """A file without its end is not whole, nor is a folder that holds one."""
    import torch
    from safetensors.torch import save_file

    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "a.webp")
    save_file({"x": torch.ones(9)}, tmp_path / "a.safetensors")
    (tmp_path / "a.svg").write_text("<svg>" + "x" * 100 + "</svg>\n")
    (tmp_path / "a.html").write_text("<html>" + "x" * 100 + "</html>\n")
    (tmp_path / ".hidden").touch()
    assert provenance.whole(tmp_path)
    for path in sorted(tmp_path.glob("a.*")):
        content = path.read_bytes()
        for size in (0, 4, len(content) - 15):
            path.write_bytes(content[:size])
            assert not provenance.whole(path) and not provenance.whole(tmp_path), (path, size)
        path.write_bytes(content)
    assert provenance.whole(tmp_path) and not provenance.whole(tmp_path / "none.svg")
    # A drawn folder has a picture for each of its scenes.
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee/1.png").write_bytes((tmp_path / "a.png").read_bytes())
    for scenes, expected in ((["bee/1.png"], True), (["bee/1.png", "bee/2.png"], False)):
        write(tmp_path / "factors.parquet", "rejected", {"path": scenes, "reason": scenes})
        assert provenance.whole(tmp_path) is expected


def test_current(tmp_path):
    table, figure, receipt = tmp_path / "t.parquet", tmp_path / "f.svg", tmp_path / "log.json"
    planned = {str(table): "new", str(figure): "new"}
    assert not provenance.current(planned, receipt)
    write(table, "rejected", {"path": [], "reason": []}, "new")
    figure.write_text("</svg>")
    assert not provenance.current(planned, receipt)  # nobody says what the figure was made from
    provenance.write_receipt(receipt, lineage="new")
    assert provenance.current(planned, receipt)
    provenance.write_receipt(receipt, lineage="old")
    assert not provenance.current(planned, receipt)
    provenance.write_receipt(receipt, lineage="new")
    write(table, "rejected", {"path": [], "reason": []}, "old")
    assert not provenance.current(planned, receipt)


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    # What a killed writer left is gone with the next one.
    code = "import os, sys; from gigraph.records.files import replacing\n"
    code += "with replacing(sys.argv[1]) as t: t.touch(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert len(list(tmp_path.iterdir())) == 2 and path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_table_cut_short_is_never_read(tmp_path):
    write(tmp_path / "t.parquet", "rejected", {"path": ["a"] * 99, "reason": ["b"] * 99})
    whole = (tmp_path / "t.parquet").read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "t.parquet").write_bytes(whole[:size])
        with pytest.raises(UserError, match="run snakemake again"):
            read(tmp_path / "t.parquet")
        assert lineage_of(tmp_path / "t.parquet") is None


def test_a_table_without_a_column_is_named(tmp_path):
    write(tmp_path / "t.parquet", "rejected", {"path": ["a"], "reason": ["b"]})
    assert read(tmp_path / "t.parquet", ["reason"]).column_names == ["reason"]
    with pytest.raises(UserError, match=r"t\.parquet has no column label"):
        read(tmp_path / "t.parquet", ["path", "label"])


def test_a_receipt_speaks_for_the_last_attempt_only(tmp_path):
    """A job that is tried again and dies leaves none: what it wrote may be half of the old and half of the new."""
    script = tmp_path / "stage.py"
    script.write_text(
        "import os\nfrom gigraph.running.runtime import run\n"
        "def main(args):\n    if args.lineage == 'dies':\n        os._exit(9)\n"
        "run(main)\n"
    )
    for lineage, expected in (("one", {"lineage": "one"}), ("dies", {})):
        subprocess.run([sys.executable, script, "--lineage", lineage, "--log", tmp_path / "a.log"], capture_output=True)
        found = provenance.read_receipt(tmp_path / "a.json")
        assert {key: found[key] for key in found if key == "lineage"} == expected


def test_stale_locks(tmp_path):
    """Locks of a dead Snakemake on these results go; those on others, and those of a living one, stay."""
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    code = """
import sys
from pathlib import Path
from gigraph.planning.lineage import release_stale_locks
alone = release_stale_locks(Path('.snakemake'), Path('results'))
print(alone, sorted(path.name for path in Path('.snakemake/locks').iterdir()))
sys.stdout.flush()
input()
"""

    def start():
        (locks / "0.output.lock").write_text("results/a.parquet\n")
        (locks / "1.output.lock").write_text("other/a.parquet\n")
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return process, process.stdout.readline().strip()

    first, said = start()
    assert said == "True ['1.output.lock']"
    second, said = start()
    assert said == "False ['0.output.lock', '1.output.lock']"
    for process in (first, second):
        process.kill()
        process.wait()
    third, said = start()
    third.kill()
    third.wait()
    assert said == "True ['1.output.lock']"


def test_the_record_of_a_run(tmp_path):
    config = load({"layers": ["layer1.0"], "seed": 7})
    for name, seconds in (("a/0", 2.5), ("a/1", 3.5), ("b", 1.0)):
        provenance.write_receipt(
            tmp_path / f"logs/{name}.json", stage=name[0], lineage="x", seconds=seconds, peak_memory_mb=100 * seconds,
            host="node1", started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:01:00+00:00",
        )  # fmt: skip
    provenance.write_run(tmp_path, config.model_dump(mode="json"), {"seed": 7})
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["stages"]["a"] == {"jobs": 2, "seconds": 6.0, "peak_memory_mb": 350.0}
    assert run["config"]["concepts"]["expansion"] == 1 and run["seeds"] == {"seed": 7}
    assert {"python", "gigraph", "torch", "snakemake", "pyarrow"} <= set(run["versions"])
    assert run["hosts"] == ["node1"] and run["seconds_of_work"] == 7.0
    assert {"host", "processor", "cores", "memory_gib", "gpus"} <= set(run["machine"])


def test_the_line_of_progress(tmp_path):
    """Time left: of each stage the mean of this run, or of an earlier one, over the jobs that ran at once."""
    provenance.write_receipt(tmp_path / "slow.json", stage="slow", seconds=96)
    now, said = [0.0], []
    overall = Overall(tmp_path, said.append, lambda: now[0])
    overall.start({1: "quick", 2: "quick", 3: "quick", 4: "slow"})
    logger = logging.getLogger("snakemake.logging")
    try:
        event = lambda name, **more: overall.emit(logging.makeLogRecord({"event": name, **more}))  # noqa: E731
        event("job_started", jobs=[1, 2])
        now[0] = 10.0
        event("job_finished", job_id=1)
        assert said.pop() == "gigraph: 1 of 4 jobs done in 10 s, about 2 min 0 s left"
        event("job_finished", job_id=2)
        assert said.pop() == "gigraph: 2 of 4 jobs done in 10 s, about 55 s left"  # two at once
        event("job_finished", job_id=2)  # told twice
        event("job_finished", job_id=99)  # the target itself
        assert not said
        event("job_started", jobs=[3, 4])
        now[0] = 20.0
        event("job_finished", job_id=3)
        event("job_finished", job_id=4)
        assert said.pop() == "gigraph: 4 of 4 jobs done in 20 s"
    finally:
        logger.removeHandler(overall)
    assert [duration(s) for s in (0.4, 59, 60, 3599, 7500)] == ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 5 min"]


@pytest.mark.parametrize("stage", ["concepts", "coefficients", "attribution"])
def test_claims_grow_with_the_sizes(stage):
    small = Sizes(images=100, attributed=20, channels=256, positions=49, rows=1000, concepts=2048)
    base = need(stage, small, 256)
    larger = small._replace(channels=2048, concepts=16384, rows=50000, attributed=2000)
    assert all(a < b for a, b in zip(base, need(stage, larger, 256), strict=True))
    assert need(stage, small, 1256)[0] > base[0]


def test_each_attempt_asks_for_twice_as_much(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "a/1.png")
    one, two, three = (claim(a_plan(tmp_path), "concepts", attempt, layer="layer1") for attempt in (1, 2, 3))
    assert two == {key: 2 * value for key, value in one.items()} and three["runtime"] == 4 * one["runtime"] > 0


SQUEUE = """#!/bin/sh
test -e cancelled && exit
printf '%s\\n' '1|{here}|rule_sample_wildcards_0' '2|/elsewhere|rule_sample' '3|{here}|by hand' '4|{here}|rule_all'
"""


def test_only_what_lost_its_controller_is_cancelled(tmp_path, monkeypatch):
    """Jobs of other folders, those that somebody else submitted, and the one that this process runs in stay."""
    for name, text in (("squeue", SQUEUE.format(here=tmp_path)), ("scancel", '#!/bin/sh\necho "$@" > cancelled\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "4")
    assert cancel_orphans(tmp_path) == ["1"]
    assert (tmp_path / "cancelled").read_text() == "1\n"
    assert cancel_orphans(tmp_path) == []


def a_plan(folder, **model):
    raw = {"images": {"source": str(folder)}, "model": model, "layers": ["layer1"]}
    return Plan(load(raw), Path(__file__).parents[2] / "workflow" / "scripts")


def test_a_presets_crop_fixes_the_input_whatever_the_first_image_is(tmp_path):
    """The paper's configuration takes resize and crop from the weights' preset; its photographs differ in size."""
    for weights, cropped in (("IMAGENET1K_V1", True), ("folder/my.pth", False), (None, False)):
        plan = a_plan(tmp_path, source="torchvision:resnet50", weights=weights)
        assert plan.crops is cropped
    plan = a_plan(tmp_path, source="torchvision:resnet50", weights="IMAGENET1K_V1")
    assert plan.image_size is None and plan.settings("selection")["uniform"] is False


def test_what_a_users_module_imports_from_beside_it_is_part_of_the_model(tmp_path):
    (tmp_path / "mine.py").write_text("from parts import block\nimport torch\n\ndef make():\n    return block.Net()\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "block.py").write_text("Net = 1\n")
    (tmp_path / "other.py").write_text("")
    found = {path.relative_to(tmp_path).as_posix() for path in imported_beside(tmp_path / "mine.py")}
    assert found == {"mine.py", "parts/__init__.py", "parts/block.py"}


def test_the_file_of_a_module_is_found_and_other_sources_have_none():
    assert [path.name for path in module_file("gigraph.errors:nearest")] == ["errors.py"]
    for source in ("menagerie", "torchvision:resnet50", "timm:vit", "a/file.py:make", "no.such.module:make"):
        assert module_file(source) == []
