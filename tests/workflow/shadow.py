"""A shadow of the workflow: the real Snakefile, rules, planning, reading and writing, without the real computing.

Every script is replaced by one that reads its inputs, and writes outputs whose only content is a hash of what it
read, of its settings and of nothing else. So a result differs as soon as anything that it rests on does, a whole run
takes seconds, and what happens to jobs that are killed, starved or started twice can be looked at many times.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import yaml

from workflow.toy import ROOT

BIN = Path(sys.executable).parent

JOB = f"""#!{sys.executable}
import ast, hashlib, json, os, sys, time
from pathlib import Path
from gigraph.records import tables
from gigraph.images.listing import members
from gigraph.planning.stages import STAGES
from gigraph.records.files import replacing
from gigraph.reporting import log
from gigraph.running.runtime import run

sys.argv = sys.argv[2 if sys.argv[1].endswith("launched.py") else 1 :]
call = next(
    node for node in ast.walk(ast.parse(Path(sys.argv[0]).read_text()))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run"
)
names = [ast.literal_eval(argument) for argument in call.args[1:]]


def outputs(args):
    planned = json.loads(Path(os.environ["GIGRAPH_PLAN"]).read_text())
    own = {{args.lineage}}
    if STAGES[Path(sys.argv[0]).stem].sweeps:
        own |= {{layer["lineage"] for layer in args.settings["layers"].values()}}
    return {{path: lineage for path, lineage in planned.items() if lineage in own}}


def main(args):
    stage, mine = Path(sys.argv[0]).stem, outputs(args)
    content = hashlib.blake2b(stage.encode(), digest_size=8)
    given = [getattr(args, name.rstrip("+?")) or [] for name in names]
    paths = {{path for value in given for path in (value if isinstance(value, list) else [value])}}
    for path in sorted(paths - set(mine)):
        if path.endswith(".parquet"):
            content.update(repr(tables.read(path).to_pylist()).encode())
    if stage == "manifest":
        settings = args.settings
        for entry in members(settings["source"], int(args.shard), settings["shards"], settings["classes"]):
            content.update(entry.path.encode() + Path(settings["source"], entry.path).read_bytes())
    log.info("pretending")
    with open("jobs.txt", "a") as out:
        print(stage, os.getpid(), *sorted(mine), file=out)
    time.sleep(float(os.environ.get("SHADOW_SECONDS", 0)))
    for path, lineage in sorted(mine.items()):
        if path.endswith(".parquet"):
            if tables.lineage_of(path) != lineage or not STAGES[stage].sweeps:
                settings = args.settings
                if stage == "sample":
                    settings = settings["layers"].get(Path(path).parent.name, {{}})
                settings = {{key: settings[key] for key in settings if key != "lineage"}}
                reason = content.hexdigest() + json.dumps(settings, sort_keys=True)
                columns = {{"path": [os.environ.get("SHADOW_TEXT", "x")], "reason": [reason]}}
                tables.write(path, "rejected", columns, lineage)
        elif Path(path).suffix:
            with replacing(path) as temporary:
                temporary.write_text(content.hexdigest() + "</svg></html></graphml>")
        else:
            Path(path).mkdir(parents=True, exist_ok=True)
            (Path(path) / "one.txt").write_text(content.hexdigest())


run(main, *names)
"""


class Shadow:
    """A copy of the workflow with pretending scripts, and a folder that it runs in.

    Parameters
    ----------
    folder : Path
        Made if need be.
    **changes
        See `write`.
    """

    def __init__(self, folder: Path, **changes):
        self.folder, self.site = folder, folder / "site"
        self._planner: subprocess.Popen | None = None
        self.site.mkdir(parents=True)
        unread = shutil.ignore_patterns("__pycache__", "*.js", "*.css")  # into the first other tests may be writing
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, self.site / name)
        for name in ("rules", "workflow", "profiles", "envs"):
            shutil.copytree(ROOT / name, self.site / name, ignore=unread)
        for package in (ROOT / "src").iterdir():
            shutil.copytree(package, self.site / "src" / package.name, ignore=unread)
        shutil.copy(ROOT / "tests/workflow/planner.py", self.site)
        python = self.site / "bin" / "python"
        python.parent.mkdir()
        python.write_text(JOB)
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        common = (
            self.site / "rules" / "common.smk"
        )  # jobs run by Snakemake's own python, and here by the pretending one
        common.write_text(common.read_text().replace("Path(sys.executable).parent", f"Path({str(python.parent)!r})"))
        for name, count in (("ant", 3), ("bee", 3), ("cat", 3)):
            for index in range(count):
                self.image(f"{name}/{index}.png")
        self.config = self.write(**changes)

    def image(self, path: str, text: str = "picture") -> Path:
        """Write something with the name of an image."""
        file = self.folder / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + path)
        os.utime(file, ns=(10**18, 10**18))  # the same in every copy, since a listing looks at it
        return file

    def write(self, name: str = "config", **changes) -> Path:
        """Write a configuration; `changes` lie over the first one section by section."""
        raw = {
            "output": "results",
            "images": {"source": "images", "shards": 2},
            "preprocessing": {"resize": 96, "crop": 96},
            "layers": ["layer1.0", "layer2.1", "layer3.1"],
        }
        for key, value in changes.items():
            raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment in which the copy is what Python finds."""
        return {
            **os.environ,
            "PATH": f"{self.site / 'bin'}:{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.site / "src"),
            "GIGRAPH_FORKS": "0",
            **more,
        }

    def command(self, *arguments: str, config: Path | None = None) -> list[str]:
        """Return the documented command for this folder."""
        snakefile = ["--snakefile", str(self.site / "Snakefile")]
        given = ["--configfile", str(config or self.config)]
        return [sys.executable, "-m", "snakemake", *snakefile, "--cores", "3", *arguments, *given]

    def run(self, *arguments: str, config: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
        """Run it."""
        return subprocess.run(
            self.command(*arguments, config=config), cwd=self.folder, env=self.environment(**environment),
            capture_output=True, text=True, timeout=3000,
        )  # fmt: skip

    def start(self, **environment: str) -> subprocess.Popen:
        """Start it in a session of its own."""
        with (self.folder / "started.txt").open("a") as out:
            return subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environment(**environment), stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def planned(self, *configs: Path) -> list[set[str]]:
        """Return the jobs that Snakemake's dry run plans for each configuration."""
        return [set(jobs) for jobs in self._ask("plan", *configs)]

    def files(self, *configs: Path) -> list[list[dict]]:
        """Return every job of both targets with its files, for each configuration (`workflow.planner`)."""
        return self._ask("files", *configs)

    def finish(self) -> None:
        """Write what a run would, in name and lineage only, and have Snakemake record it as done."""
        self._ask("finish", self.config)

    def _ask(self, what: str, *configs: Path) -> list:
        if self._planner is None:
            # It ends when its input does: with this object, or this process. Buffered, since Python else loses what
            # the pipe does not take at once.
            self._planner = subprocess.Popen(
                [sys.executable, "planner.py"], cwd=self.site, env=self.environment(PYTHONUNBUFFERED=""), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        print(json.dumps([what, str(self.folder), *map(str, configs)]), file=self._planner.stdin, flush=True)
        found = json.loads(self._planner.stdout.readline() or '{"error": "the planner died"}')
        assert isinstance(found, list), found["error"]
        return found

    def jobs(self) -> list[list[str]]:
        """Return what was pretended since the last call: stage, process, outputs."""
        log = self.folder / "jobs.txt"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def tables(self) -> dict[str, list]:
        """Return the content and lineage of every table by its path."""
        import pyarrow.parquet as pq

        found = {}
        for path in sorted((self.folder / "results").rglob("*.parquet")):
            table = pq.read_table(path)
            found[str(path.relative_to(self.folder))] = [table.to_pylist(), table.schema.metadata[b"gigraph.lineage"]]
        return found
