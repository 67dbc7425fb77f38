"""Folders are contracts: what each room may import, as `docs/architecture.md` draws it; and no circles."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from gigraph.planning.lineage import _executed, _names

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gigraph"
GROUND = {"errors", "hashing", "threads", "vision", "device", "reserved", "reporting", "version", "orphans", "foreign"}
OPENED = {"subject", "vocabulary", "pair", "exemplars", "replacement", "circuits", "circuit_run", "network_check"}
FRONT = {
    *("__init__", "__main__", "api", "cli", "commands"),
    *("explain", "edit", "edit_images", "edit_circuits", "image_circuit", "differences", "building"),
}
ROOMS = {
    "ground": set(),
    "method": set(),
    "extractors": {"method"},
    "attributors": {"method"},
    "images": set(),
    "model": {"method", "worlds"},
    "records": {"method"},
    "worlds": {"method"},
    "opened": {"method", "attributors", "model", "images", "records", "worlds"},
    "evaluation": {"method", "extractors", "attributors", "images", "records", "opened", "worlds"},
    "explorer": {"method", "images", "model", "records", "evaluation"},
    "planning": {"extractors", "attributors", "images", "model", "records", "worlds"},
    "running": {"method", "records", "planning"},
    "front": {"method", "model", "images", "records", "opened", "planning", "explorer", "worlds"},
}
"""What each room may import besides itself and the ground."""


def room_of(module: str) -> str:
    """Return the room of a dotted module below gigraph."""
    top = module.split(".")[0] or "__init__"
    return "ground" if top in GROUND else "opened" if top in OPENED else "front" if top in FRONT else top


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows() -> dict[str, set[str]]:
    """Return the modules that each module imports, wherever in it; for type checkers only does not count."""
    known, found = modules(), {}
    for name, path in known.items():
        names = _names(_executed(ast.parse(path.read_text())))
        targets = {one.removeprefix("gigraph").strip(".") for one in names if one.split(".")[0] == "gigraph"}
        found[name] = {one for one in targets if one in known} - {name, ""}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_contract_says(room):
    for module, targets in arrows().items():
        if room_of(module) == room:
            bad = {one for one in targets if room_of(one) not in ROOMS[room] | {room, "ground"}}
            assert not bad, f"{module} imports {', '.join(sorted(bad))}"


def test_every_module_is_in_a_room():
    assert {room_of(module) for module in modules()} == set(ROOMS)


def test_there_are_no_circles():
    graph = arrows()
    done, path = set(), []

    def walk(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for target in sorted(graph[module]):
                # A package's face may hand on its own modules' names; they do not import it for anything else.
                if not target.startswith(f"{module}.") and not module.startswith(f"{target}."):
                    walk(target)
            done.add(path.pop())

    for module in graph:
        walk(module)


def test_the_method_knows_neither_files_nor_tables():
    for module, path in modules().items():
        if room_of(module) in ("method", "extractors", "attributors"):
            names = {name.split(".")[0] for name in _names(_executed(ast.parse(path.read_text())))}
            assert not names & {"pyarrow", "polars", "json", "os", "snakemake", "PIL"}, module


def test_scripts_are_thin_and_import_no_script():
    stems = {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")}
    for path in (ROOT / "workflow/scripts").glob("*.py"):
        names = _names(_executed(ast.parse(path.read_text())))
        assert not {name.split(".")[0] for name in names} & (stems - {"images"}), path.stem


def test_the_architecture_page_draws_these_rooms():
    """The table of the page says of every room what it may import."""
    page = (ROOT / "docs/architecture.md").read_text()
    assert len(page.splitlines()) <= 120
    rows = dict(re.findall(r"^\| `(\w+)/?`[^|]*\|[^|]*\| ([^|]*) \|$", page, flags=re.MULTILINE))
    found = defaultdict(set)
    for room, may in rows.items():
        found[room] = set(re.findall(r"`(\w+)`", may))
    assert dict(found) == ROOMS


def test_what_is_loaded_by_its_name_is_loaded_by_the_doors_only():
    """An import by importlib is in no code digest: a door's users declare what they choose through it."""
    doors = {"extractors", "attributors", "model.models", "worlds.registry", "planning.lineage", "vision", "cli"}
    # Another package, where one keeps a file, and what scripts are going to import anyway.
    beside = {"extractors.plugged", "images.imagenet", "running.forks"}
    found = {
        module
        for module, path in modules().items()
        if any(name.split(".")[0] == "importlib" for name in _names(ast.walk(ast.parse(path.read_text()))))
        and "importlib.metadata" not in path.read_text()
    }
    assert found <= doors | beside, found - doors
