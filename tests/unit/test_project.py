"""What stands beside the code: version, changelog, citation."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import yaml

from gigraph.version import __version__

ROOT = Path(__file__).parents[2]


def test_the_version_stands_in_one_place_and_the_others_say_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (
        "version" not in project["project"] and project["tool"]["hatch"]["version"]["path"] == "src/gigraph/version.py"
    )
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[0]
    assert newest == __version__


def test_the_logger_plugin_is_found_by_its_name():
    """The profiles name it; without it no run would start."""
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    assert "gigraph" in LoggerPluginRegistry().get_registered_plugins()
    for profile in ("default", "slurm"):
        assert yaml.safe_load((ROOT / f"profiles/{profile}/config.yaml").read_text())["logger"] == "gigraph"
    assert importlib.metadata.version("snakemake-interface-logger-plugins")
