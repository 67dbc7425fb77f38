"""Writes docs/models.md of what `survey.models` found: ``python -m survey.report ROWS.jsonl`` (in tests/)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/models.md"


def read(path: Path) -> list[dict]:
    """Return the rows, the last one of each model."""
    return list({row["model"]: row for row in map(json.loads, path.read_text().splitlines())}.values())


def accepted(rows: list[dict]) -> list[dict]:
    """Return those whose relevance and attributions were found."""
    return [row for row in rows if row.get("method")]


def page(rows: list[dict]) -> str:
    """Return the page."""
    from importlib.metadata import version

    good = accepted(rows)
    other = [row for row in rows if row.get("error") and not row.get("method")]
    refused = [row for row in rows if row not in good and row not in other]
    parts = [
        "# Which models work",
        f"One model of every family of timm {version('timm')}, a small one, and every classifier of torchvision "
        f"{version('torchvision')}, with random weights: traced, two layers taken, relevance carried back, the logit "
        f"attributed to concepts. **{len(good)} of {len(rows)} are accepted ({len(good) / len(rows):.0%})**, "
        f"{len(refused)} refused in a line that says why"
        + (f", and {len(other)} ended otherwise." if other else "; none ended in another way."),
        "Made by `python -m survey.models ROWS.jsonl && python -m survey.report ROWS.jsonl` in tests/ (an hour on two "
        "cores). What `srd` and gradient x input are: [contribution.md](contribution.md).",
    ]
    for title, some in (
        ("Relevance by SRD, with the pattern held fixed", [row for row in good if row["method"] == "srd"]),
        ("Relevance by gradient x input", [row for row in good if row["method"] != "srd"]),
        ("Refused", refused),
        ("Ended otherwise", other),
    ):
        if not some:
            continue
        parts.append(f"## {title} ({len(some)})")
        if title == "Relevance by SRD, with the pattern held fixed":
            for source in ("timm", "torchvision"):
                names = sorted(row["model"].partition(":")[2] for row in some if row["model"].startswith(source + ":"))
                if names:
                    parts.append(f"{source}: {', '.join(names)}.")
        else:
            parts += ["| model | why |\n|---|---|\n" + "\n".join(f"| {r['model']} | {_why(r)} |" for r in some)]
    return "\n\n".join(parts) + "\n"


def _why(row: dict) -> str:
    why = row.get("reason") or row.get("error", "")
    return why.partition("; set contribution.method")[0].removeprefix(f"model.source: {row['model']}: ")


if __name__ == "__main__":
    PAGE.write_text(page(read(Path(sys.argv[1]))))
