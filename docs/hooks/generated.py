"""Pages made of the code while the site is built: settings, stages, tables, commands, and each public module's."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gigraph import commands
from gigraph.planning import config as settings
from gigraph.planning.stages import STAGES
from gigraph.records import schemas
from gigraph.records.paths import FILES

PACKAGE = Path(inspect.getfile(settings)).parents[1]
ROOMS: dict[str, tuple[str, ...]] = {
    "A run and what is done with it": (
        "gigraph", "api", "errors", "building.*", "edit", "differences.*", "subject", "vocabulary", "pair",
        "replacement", "circuits",
    ),
    "Method": ("method.*",),
    "Extractors": ("extractors", "extractors.*"),
    "Attributors": ("attributors", "attributors.*"),
    "Model": ("model.*",),
    "Images": ("images.*",),
    "Worlds": ("worlds.world", "worlds.registry", "worlds.train", "worlds.truth"),
    "Evaluation": ("evaluation.*",),
    "Records and settings": ("records.*", "planning.config"),
}  # fmt: skip
"""The modules that have a page, by their place in the navigation. A package whose doors are the whole of it is one."""
VECTORS = {"pfvs": "pfv", "uniform": "pfv", "concepts": "vector", "encoder": "weights", "probes": "pfv", "maps": "pfv",
           "pairs": "pfv"}  # fmt: skip
"""Tables with a vector of the layer's channels in each row, and its column."""


# ---- settings --------------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Return the page of all settings, by section in the order of ``config.yaml``."""
    schema, values = settings.schema(), settings.read([])
    known = {"LayerEntry", *(_of(one) for one in schema["properties"].values())}
    parts = [
        "# Configuration",
        "Every key, made of the typed configuration (`gigraph.planning.config`). The default is that of `config.yaml`, "
        "which Snakemake reads first; your file says what differs:",
        "```bash\nuv run snakemake --configfile my.yaml -n\nuv run snakemake --configfile my.yaml\n"
        "uv run snakemake --config 'images={\"shards\": 3}'    # a single setting\n```",
        "Several files are laid over each other in their order: `--configfile my.yaml workflow/configs/paper.yaml`. An "
        "unknown key, a wrong type or two settings that exclude each other are refused in one line before any work.",
        "## Top level",
        _keys({key: one for key, one in schema["properties"].items() if _of(one) not in known - {""}}, values),
    ]
    for key, one in schema["properties"].items():
        if name := _of(one):
            section = schema["$defs"][name]
            parts += [f"## `{key}`", section["description"], _keys(section["properties"], values.get(key, {}), key)]
    layer = schema["$defs"]["LayerEntry"]
    parts += [
        "## A layer of `layers`",
        "A name, or a mapping: `- {name: layer3.1, concepts: {expansion: 2}, coefficients: {value: 12}}`.",
        _keys(layer["properties"], {}),
    ]
    return "\n\n".join(parts) + "\n"


def _of(one: Mapping[str, Any]) -> str:
    """Return the section that a property refers to, or ""."""
    return str(one.get("$ref", "")).rpartition("/")[2]


def _keys(properties: Mapping[str, Any], values: Mapping[str, Any], section: str = "") -> str:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for key, one in properties.items():
        anchor = f'<span id="{section}.{key}"></span>' if section else f'<span id="{key}"></span>'
        default = values.get(key, one.get("default"))
        shown = "" if key == "layers" or "default" not in one else f"`{json.dumps(default)}`"
        rows.append(f"| {anchor}`{key}` | {kind(one)} | {_cell(shown)} | {_cell(one['description'])} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def kind(one: Mapping[str, Any]) -> str:
    """Return in words what a part of a JSON schema allows."""
    if "anyOf" in one:
        words = list(dict.fromkeys(kind(part) for part in one["anyOf"]))
        return (", or " if any("," in word for word in words) else " or ").join(words)
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    if "$ref" in one:
        return "section"
    match one.get("type"):
        case "array":
            of = one["items"]
            return "list of " + ("pairs of names" if "prefixItems" in of else kind(of))
        case "object":
            of = one.get("additionalProperties")
            return f"mapping to {kind(of)}" if isinstance(of, dict) else "mapping"
        case "integer" | "number" as name:
            return name + _bounds(one, name == "integer")
        case "string":
            return "text"
        case "boolean":
            return "`true`, `false`"
        case None:
            return "anything"
        case name:
            return f"`{name}`"


def _bounds(one: Mapping[str, Any], whole: bool) -> str:
    low, above = one.get("minimum"), one.get("exclusiveMinimum")
    high, below = one.get("maximum"), one.get("exclusiveMaximum")
    if whole and above is not None:
        low, above = above + 1, None
    words = [f"at least {low:g}"] if low is not None else [f"above {above:g}"] if above is not None else []
    words += [f"at most {high:g}"] if high is not None else [f"below {below:g}"] if below is not None else []
    return "".join(f", {word}" for word in words)


# ---- tables ----------------------------------------------------------------------------------------------------------


def tables() -> str:
    """Return the page of all tables: where each lies, who writes it, what its columns are."""
    said = comments()
    parts = [
        "# Every table",
        "Made of `gigraph.records.schemas` and `gigraph.records.paths`. All tables are Parquet; each carries, in its "
        "metadata, the hash of what it was made from. Paths are below the configuration's `output`; METHOD is the "
        'extractor, SOURCE and TARGET are layers or `classes`. `gigraph.open("results").table(NAME)` reads any below '
        "METHOD ([api](api.md)). Which settings, code and inputs a table depends on says its stage "
        "([architecture](architecture.md)).",
    ]
    for name, schema in schemas.SCHEMAS.items():
        words, columns = said_of_columns(said.get(name, ""), schema.names)
        lies = [(key, file) for key, file in FILES.items() if name in file.kinds]
        parts += [f"## {name}"]
        if words:
            parts.append(words)
        if lies:
            parts.append("\n".join(_place(key, file.pattern) for key, file in lies))
        rows = ["| column | type | |", "|---|---|---|"]
        rows += [f"| `{one.name}` | {arrow(one.type)} | {_cell(columns.get(one.name, ''))} |" for one in schema]
        if name in VECTORS:
            rows.append(f"| `{VECTORS[name]}` | float32s | one for each of the layer's channels |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def stages() -> str:
    """Return the page of all stages: what each does, how many jobs it is, what it writes."""
    parts = [
        "# Every stage",
        "The words at the beginning of the lines that a run prints, made of the stages' declarations. A stage is one "
        "job for each method, layer, pair of layers or shard that stands in its second column; where these are "
        "several, the line sums the time of all. The log of each job lies in `logs/` below the results, in a folder of "
        "the method's name where the stage has one (`logs/bisecting/concepts/layer3.1.log`, `logs/sample/0.log`, "
        "`logs/explorer.log`); what came of it is the line before the one that says how long it took.",
        "\n".join([
            "| stage | a job for each | what it does | writes |", "|---|---|---|---|",
            *(
                f"| `{name}` | {', '.join(stage.of)} | {_cell(inspect.cleandoc(str(stage.__doc__)))} | "
                f"{', '.join(f'`{key}`' for key in stage.writes)} |"
                for name, stage in STAGES.items()
            ),
        ]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _place(key: str, pattern: str) -> str:
    shown = re.sub(r"\{(\w+)\}", lambda field: field[1].upper(), pattern)
    by = next((stage.name for stage in STAGES.values() if key in stage.writes), None)
    return f"- `{shown}`" + (f", written by the stage `{by}`" if by else "")


def arrow(of: pa.DataType) -> str:
    """Return a type in words."""
    if pa.types.is_fixed_size_list(of):
        return f"{of.list_size} {arrow(of.value_type)}s"
    if pa.types.is_list(of):
        return f"list of {arrow(of.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(of), str(of))


def said_of_columns(words: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return what a comment says of a table, and of its columns: ``a, b: words; c: words``."""
    name = f"(?:{'|'.join(map(re.escape, names))})"
    whole, *found = re.split(rf"(?:^|[;,.] )({name}(?:, {name})*): ", words)
    pairs = zip(found[::2], found[1::2], strict=True)
    return whole[:1].upper() + whole[1:], {one: said.rstrip(";.") for heads, said in pairs for one in heads.split(", ")}


def comments() -> dict[str, str]:
    """Return what the schemas' source says above each table, in one line."""
    lines = Path(inspect.getfile(schemas)).read_text(encoding="utf-8").splitlines()
    tree = ast.parse("\n".join(lines))
    (found,) = (
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "SCHEMAS"
    )
    assert isinstance(found, ast.Dict)
    said = {}
    for key in found.keys:
        assert isinstance(key, ast.Constant)
        above: list[str] = []
        for line in reversed(lines[: key.lineno - 1]):
            if not line.strip().startswith("#") or "# ----" in line:
                break
            above.insert(0, line.strip().removeprefix("#").strip())
        words = " ".join(above)
        # What a reader of the page does not see from here.
        words = re.sub(
            r";? ?(?:all with )?(?:pfv: FixedSizeList<float32>\[C\], see `pfv_schema`|pfv as above)$", "", words
        )
        said[key.value] = words
    return said


# ---- commands --------------------------------------------------------------------------------------------------------


def command_line() -> str:
    """Return the page of the commands, as their ``--help`` says."""
    parts = [
        "# Commands",
        "`snakemake` makes graphs and evaluations; its targets are:",
        "| target | |\n|---|---|\n| (none) | the graph and its explorer |\n"
        "| `evaluation` | how far concepts and graph can be trusted ([more](trust.md)) |",
        "`gigraph` begins runs, looks at what is made, and plans. `uv run gigraph COMMAND --help` prints the same.",
    ]
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        parser = argparse.ArgumentParser(f"gigraph {found.name}")
        module.add_arguments(parser)
        parts += [f"## gigraph {found.name}", str(module.__doc__).strip(), _arguments(parser)]
    return "\n\n".join(parts) + "\n"


def _arguments(parser: argparse.ArgumentParser) -> str:
    rows = ["| argument | default | |", "|---|---|---|"]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar or (
            action.dest.upper() if action.option_strings and action.nargs != 0 else action.dest
        )
        name = f"{action.option_strings[-1]} {metavar}" if action.option_strings else str(metavar)
        name = name if action.nargs != 0 else action.option_strings[-1]
        unsaid = action.default is False or action.default in (None, [], (), argparse.SUPPRESS)
        default = "" if unsaid else action.default
        words = (action.help or "") % {**vars(action), "prog": parser.prog}
        rows.append(f"| `{name}` | {f'`{default}`' if default != '' else ''} | {_cell(words)} |")
    return "\n".join(rows) if rows[2:] else ""


# ---- modules ---------------------------------------------------------------------------------------------------------


def modules(patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the modules that patterns name, packages before what is in them."""
    for pattern in patterns:
        home, star, _ = pattern.partition(".*")
        if not star:
            yield "gigraph" if pattern == "gigraph" else f"gigraph.{pattern}"
            continue
        for path in sorted((PACKAGE / home.replace(".", "/")).rglob("*.py")):
            name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
            # Compiled and CUDA variants of a kernel say the same as its solver.
            if path.stem not in ("compiled", "cuda") and name != f"gigraph.{home}" and "._" not in name:
                yield name


def on_config(config: Any, **_: Any) -> Any:
    """Put the modules' pages into the navigation."""
    entry = next(one for one in config.nav if "Modules" in one)
    entry["Modules"] = [
        {room: [{name.removeprefix("gigraph."): f"modules/{name}.md"} for name in modules(patterns)]}
        for room, patterns in ROOMS.items()
    ]
    return config


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    made = {"configuration.md": configuration(), "commands.md": command_line()}
    made |= {"tables.md": tables(), "stages.md": stages()}
    for patterns in ROOMS.values():
        made |= {
            f"modules/{name}.md": f"---\ntitle: {name}\nsearch: {{boost: 0.2}}\n---\n\n::: {name}\n"
            for name in modules(patterns)
        }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files
