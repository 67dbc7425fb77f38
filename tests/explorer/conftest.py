"""One results folder and one site for all tests here; they are only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.fixture import write_results
from gigraph.explorer import Inputs, build


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def site(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "explorer"
    build(inputs, out)
    return out
