"""The documentation's pages name what is there, and those made of the code hold all of it."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path

import pytest

from gigraph import commands
from gigraph.planning.config import Config
from gigraph.planning.stages import STAGES
from gigraph.records.schemas import SCHEMAS

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]}


def hook(name: str):
    """A hook of the site, which lies in no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / f"docs/hooks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated():
    return hook("generated")


def of(name: str) -> object:
    """What a dotted name means: a module, or what is in it."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_package_are_there(page: str):
    for name in {*re.findall(r"`(gigraph(?:\.\w+)+)`", PAGES[page])} - {"gigraph.yaml"}:
        of(name)


@pytest.mark.parametrize("page", PAGES)
def test_settings_are_there(page: str):
    """Every ``section.key`` in code is one, unless it is a file's name."""
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    sections = {name: model for name, model in sections.items() if hasattr(model, "model_fields")}
    for section, key in re.findall(rf"`({'|'.join(sections)})\.(\w+)(?:`|: )", PAGES[page]):
        if key not in ("parquet", "graphml"):
            assert key in sections[section].model_fields, f"{section}.{key}"


@pytest.mark.parametrize("page", PAGES)
def test_files_are_there(page: str):
    text = PAGES[page]
    for path in re.findall(r"\b((?:workflow|tests|profiles|src|docs)/[\w./-]*\w)", text):
        assert "NAME" in path or (ROOT / path).exists(), path
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert list((ROOT / "tests").rglob(name)), name
    for name in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob("test_*.py")), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_there(page: str):
    import argparse

    known = {found.name for found in pkgutil.iter_modules(commands.__path__)}
    for name, rest in re.findall(r"uv run gigraph (\w+)([^\n`#]*)", PAGES[page]):
        assert name in known, name
        parser = argparse.ArgumentParser()
        importlib.import_module(f"{commands.__name__}.{name}").add_arguments(parser)
        options = {option for action in parser._actions for option in action.option_strings}
        assert {*re.findall(r"--[\w-]+", rest)} <= options, rest


@pytest.mark.parametrize("page", PAGES)
def test_targets_are_there(page: str):
    """What `uv run snakemake` is given before its options: targets, no files of settings."""
    for line in re.findall(r"uv run snakemake([^\n`#|]*)", PAGES[page]):
        targets = line.partition(" -")[0].split()
        assert {*targets} <= {"evaluation"}, line


@pytest.mark.parametrize("number", range(1, 12))
def test_the_page_of_the_method_has_every_equation(number: int):
    text = PAGES["method.md"]
    (section,) = re.findall(
        rf"^## Eq\. {number}: .*?\{{ #eq-{number} \}}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL
    )
    assert "$$" in section and "`gigraph." in section


def test_the_page_of_the_configuration_has_every_key_with_its_default(generated):
    page = generated.configuration()
    for name, field in Config.model_fields.items():
        if not hasattr(field.annotation, "model_fields"):
            assert f'<span id="{name}"></span>`{name}`' in page
            continue
        section = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        for key in field.annotation.model_fields:
            assert f'<span id="{name}.{key}"></span>`{key}`' in section, f"{name}.{key}"
    (row,) = re.findall(r"^.*`tolerance` .*sum .GIG.*$", page.replace("\\|", "."), re.MULTILINE)
    assert row.split(" | ")[1:3] == ["number, above 0", "`0.02`"]
    (row,) = re.findall(r"^.*id=\"concepts\.center\".*$", page, re.MULTILINE)
    assert row.split(" | ")[1:3] == ["`auto`, `batchnorm`, `mean`, `zero`", '`"auto"`']
    (row,) = re.findall(r"^.*id=\"attribution\.pairs\".*$", page, re.MULTILINE)
    assert row.split(" | ")[1:3] == ["list of pairs of names", "`[]`"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, "integer, at least 1"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number, at least 0, below 1"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or `null`"),
        ({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}, "integer, at least 0, or `null`"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "mapping to text"),
        ({"const": "imagenet", "type": "string"}, "`imagenet`"),
    ],
)
def test_what_a_key_allows_is_said_in_words(generated, schema: dict, words: str):
    assert generated.kind(schema) == words


def test_the_page_of_the_tables_has_every_table_with_its_columns_words_and_files(generated):
    page = generated.tables()
    for name, schema in SCHEMAS.items():
        (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)[: len(schema.names)] == schema.names
    coefficients = page.partition("\n## coefficients\n")[2].partition("\n## ")[0]
    assert "| `gap` | float32 | the lasso's relative duality gap, NaN without a lasso |" in coefficients
    assert "`METHOD/coefficients/LAYER/SHARD.parquet`, written by the stage `coefficients`" in coefficients
    assert "| `concepts` | list of int32 | the coefficients that are not 0 |" in coefficients


def test_the_page_of_the_stages_says_what_each_does(generated):
    page = generated.stages()
    for name, stage in STAGES.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        _, _, jobs, words, wrote, _ = re.split(r"(?<!\\)\|", row)
        assert jobs.strip() == ", ".join(stage.of) and len(words) > 12 and all(key in wrote for key in stage.writes)


def test_what_a_comment_says_of_columns_stands_beside_them(generated):
    said = generated.said_of_columns(
        "the rows; and more. a, b: one, or two. of which more, c: another", ["a", "b", "c"]
    )
    assert said == (
        "The rows; and more", {"a": "one, or two. of which more", "b": "one, or two. of which more", "c": "another"}
    )  # fmt: skip


def test_tables_with_vectors_say_so(generated):
    """Those that are written with a column of vectors, and no others."""
    sources = [*(ROOT / "workflow/scripts").glob("*.py"), *(ROOT / "src/gigraph").rglob("*.py")]
    text = "".join(path.read_text() for path in sources)
    found = dict(re.findall(r"tables\.write\([^()]*?, \"(\w+)\",[^()]*?(?:\([^()]*\)[^()]*?)*?vectors=\"(\w+)\"", text))
    probes = dict(re.findall(r"yield name, \"(\w+)\", .*\"(pfv)\"$", text, re.MULTILINE))
    assert found and probes and {**found, **probes}.items() <= generated.VECTORS.items()


def test_the_page_of_the_commands_has_every_command(generated):
    page = generated.command_line()
    for found in pkgutil.iter_modules(commands.__path__):
        assert f"## gigraph {found.name}\n" in page
    assert "| `--suppress " in page and "--configfile" in page


def test_each_public_module_has_one_page(generated):
    names = [name for patterns in generated.ROOMS.values() for name in generated.modules(patterns)]
    assert len(names) == len({*names}) and {
        "gigraph",
        "gigraph.api",
        "gigraph.method.gig",
        "gigraph.extractors.sae",
    } < {*names}
    for name in names:
        assert importlib.util.find_spec(name), name


def test_what_docstrings_draw_keeps_its_columns():
    pytest.importorskip("griffe", reason="needs the group docs")
    as_markdown = hook("docstrings").as_markdown
    text = (
        "One [Eq. 4].\n\nNotation\n--------\n``x``   [C]   a vector\n``U``   [P]   others\n\n"
        "A path::\n\n    y = 2**x            [Eq. 3]\n\nOf <a, b>, 2**-24."
    )
    assert as_markdown(text) == (
        'One <autoref identifier="eq-4" optional>&#91;Eq. 4&#93;</autoref>.\n\n**Notation**\n\n'
        "```text\nx       [C]   a vector\nU       [P]   others\n```\n\nA path:\n\n```text\ny = 2**x    [Eq. 3]\n```\n\n"
        "Of &lt;a, b>, 2\\*\\*-24."
    )
    assert as_markdown("Parameters\n----------\nx : int\n    Words.") == "Parameters\n----------\nx : int\n    Words."
