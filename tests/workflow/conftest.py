"""One whole run of the toy, which several modules read."""

import pytest

from workflow.toy import configure, draw, snakemake


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """Return the folder of a finished run with one unreadable image and a labelled concept; not to be changed."""
    folder = tmp_path_factory.mktemp("toy")
    draw(folder)
    (folder / "images" / "bee" / "broken.jpg").write_text("no picture")
    settings = configure(folder, explorer={"labels": {"layer4.0:1": "kept by a rebuild"}})
    run = snakemake(folder, "--configfile", str(settings))
    assert run.returncode == 0, run.stderr[-4000:]
    return folder
