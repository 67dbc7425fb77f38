"""What `docs/architecture.md` says of adding something is all that it takes: nothing else keeps a list of names."""

import ast
import re
from pathlib import Path

import pytest

import gigraph.attributors.registry as attributors
import gigraph.extractors.registry as extractors
from gigraph.planning import config
from gigraph.planning.stages import STAGES
from gigraph.planning.stages.stage import Stage, read
from gigraph.records.paths import FILES
from gigraph.records.schemas import SCHEMAS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()


def test_a_stage_is_its_script_its_rule_its_declaration_and_its_files():
    rules = re.findall(r"^rule (\w+):", "".join(p.read_text() for p in (ROOT / "rules").glob("*.smk")), re.MULTILINE)
    scripts = {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")}
    assert scripts == set(STAGES) == {*rules} - {"evaluation"} and len(rules) == len(STAGES) + 1
    written = [name for stage in STAGES.values() for name in stage.writes]
    assert len(written) == len({*written}), "two stages write one file"
    assert {*FILES} - {*written} == {"explained", "plan", "asked", "run", "logs"}, "files that no stage writes"
    assert {kind for file in FILES.values() for kind in file.kinds} == {*SCHEMAS} - {
        "grids",  # beside an explained image
        "edited",  # beside an edit
    }
    for stage in STAGES.values():
        for name in stage.writes:
            assert {*stage.of} <= {*FILES[name].fields}, f"{stage.name}: all its jobs write one {name}"


@pytest.mark.parametrize(
    ("room", "besides", "offered"),
    [
        (extractors, {"extraction", "autoencoder", "plugged", "registry"}, config.EXTRACTORS),
        (attributors, {"path", "registry"}, config.ATTRIBUTORS),
    ],
    ids=["extractors", "attributors"],
)
def test_a_method_is_its_module_and_a_line(room, besides, offered):
    names = {path.stem for path in Path(room.__file__).parent.glob("*.py")} - {"__init__", *besides}
    assert {*room.MODULES.values()} == names
    assert [*offered] == [*room.MODULES]
    offers = {"extract"} if room is extractors else {"attribute", "COMPLETE"}
    for name in names:
        tree = ast.parse((Path(room.__file__).parent / f"{name}.py").read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        defined |= {target.id for target in assigned if isinstance(target, ast.Name)}
        assert offers <= defined, f"{name} lacks {offers - defined}"


def test_the_page_names_files_that_are_there():
    for path in re.findall(r"`((?:src|rules|workflow|tests|planning)/[\w/.*]+)`", PAGE):
        base = ROOT / "src/gigraph" if path.startswith("planning") else ROOT
        assert "NAME" in path or list(base.glob(path.rstrip("/"))), path


def test_the_pages_example_is_a_stage():
    (code,) = re.findall(r"```python\n(class Sharpness.*?)```", PAGE, flags=re.DOTALL)
    try:
        exec(code, {"Stage": Stage, "read": read})
        stage = STAGES["sharpness"]
        assert stage.settings(None, method="m", layer="a") == {"layer": "a"}
        assert stage.reads(None, method="m", layer="a")["concepts"].name in FILES
        assert stage.cost(None, None) is None and stage.need(None) == (0, 0)
    finally:
        STAGES.pop("sharpness", None)
