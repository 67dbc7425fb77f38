"""One whole run of the toy, which several modules read."""

import os

import pytest
from filelock import FileLock

from workflow.toy import configure, draw, snakemake


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """Return the folder of a finished run, which is not to be changed.

    It has one unreadable image, a labelled concept, and what each job loaded.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the first process makes it for all
        shared = shared.parent
    folder = shared / "toy"
    with FileLock(shared / "toy.lock"):
        if not (shared / "toy.done").exists():
            draw(folder)
            (folder / "images" / "bee" / "broken.jpg").write_text("no picture")
            settings = configure(folder, explorer={"labels": {"layer4.0:1": "kept by a rebuild"}})
            (folder / "trace").mkdir()
            run = snakemake(folder, "--configfile", str(settings), trace=folder / "trace")
            assert run.returncode == 0, run.stderr[-4000:]
            (shared / "toy.screen").write_text(run.stderr)
            (shared / "toy.done").touch()
    return folder
