"""Make the graph: run the workflow in the folder that the command is called in.

Takes all that snakemake takes (snakemake --help): targets such as evaluation, --configfile FILE, -n for what would run,
--cores 4, --workflow-profile slurm, --verbose. Results and the paths in configuration files belong to this folder.
Without --configfile it takes gigraph.yaml if that lies here, and else explains the drawn world. Those that come with
gigraph are found from everywhere: --configfile workflow/configs/traffic.yaml.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

PASSES_ON = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: what is given goes to Snakemake."""
    parser.usage = "gigraph run [TARGET ...] [--configfile FILE ...] [anything that snakemake takes]"


def main(args: argparse.Namespace) -> None:
    """Become Snakemake."""
    command = [sys.executable, "-P", "-m", "snakemake", *arguments(args.rest)]
    os.execv(sys.executable, command)


def arguments(given: list[str]) -> list[str]:
    """Return Snakemake's arguments: where the workflow lies, the folder's own configuration, and what is given.

    Raises
    ------
    UserError
        If a configuration file is missing, or the workflow.
    """
    from gigraph.errors import UserError
    from gigraph.planning.config import OWN, PROJECT, chosen, configfiles, shipped

    snakefile = PROJECT / "Snakefile"
    if not snakefile.is_file():
        raise UserError(f"there is no {snakefile}: this installation holds no workflow; install gigraph again")
    files = configfiles(given)
    for file in map(shipped, files):
        if not file.is_file():
            raise UserError(f"--configfile: there is no file {file}; correct the path, and name targets before it")
    own = [f"--configfile={file}" for file in ([] if files else chosen([]))]
    if not (files or own):
        print(f"no {OWN} lies here, so the drawn world is explained; gigraph init writes one of yours", file=sys.stderr)
    profile = _profile(snakefile.parent / "profiles" / "default", given)
    return ["--snakefile", str(snakefile), *profile, *own, *map(_found, given)]


def _profile(shipped: Path, given: list[str]) -> list[str]:
    """Return the options of the profile that Snakemake would take by itself, and say of, where none is asked for."""
    import yaml

    words = [one.partition("=")[0] for one in given if one.startswith("--") and len(one) > len("--wor")]
    asked = any(name.startswith(word) for word in words for name in ("--profile", "--workflow-profile"))
    others = [path for path in (Path("default"), Path("profiles/default")) if path.is_dir()]
    if asked or "SNAKEMAKE_PROFILE" in os.environ or any(path.resolve() != shipped.resolve() for path in others):
        return []
    settings = yaml.safe_load((shipped / "config.yaml").read_text())
    if not all(isinstance(value, bool | int | float | str) for value in settings.values()):
        return []  # Snakemake knows how these are read
    options = ["--workflow-profile=none"]
    for key, value in settings.items():
        if value is not False:
            options.append(f"--{key}" if value is True else f"--{key}={value}")
    return options


def _found(word: str) -> str:
    """Return an argument with the file that it names where that lies, if it comes with the workflow."""
    from gigraph.planning.config import CONFIGFILES, shipped

    option, _, value = word.rpartition("=")
    if word.startswith("-") and f"{option}=" not in CONFIGFILES:
        return word
    there = shipped(Path(value))
    return word if there == Path(value) else f"{option}{'=' * bool(option)}{there}"
