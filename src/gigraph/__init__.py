"""gigraph: the dataset-wide concept graph of an image classifier.

An implementation of "Decompose the Model: Mechanistic Interpretability in Image Models with Generalized
Integrated Gradients (GIG)". `docs/method.md` maps each of the paper's equations to its function and its test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gigraph.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from torch import Tensor, nn

    from gigraph.api import Run
    from gigraph.differences.difference import Difference

__all__ = ["__version__", "build", "diff", "open"]


def build(
    model_factory: str | nn.Module | Callable[..., nn.Module],
    images: str | Path | Mapping[str, Any],
    layers: Sequence[str | Mapping[str, Any]],
    out: str | Path,
    *,
    weights: nn.Module | Mapping[str, Tensor] | str | Path | None = None,
    arguments: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Make the concept graph of a model in memory, and open it: no file of settings is needed.

    The workflow is the one that ``gigraph run`` starts, in processes of its own, and what it says is printed. The model
    reaches them as what makes it, and its state dict beside the results (``out/given``). Before anything is started, a
    fresh process makes it so and looks at a few images and at noise: it must say what the given one says. The same call
    again runs what has changed since, and nothing else.

    Parameters
    ----------
    model_factory : callable, nn.Module or str
        A function or class that returns the model, or a `functools.partial` of one: it is passed on by its name where
        it can be imported, or else, of a notebook, by its source and that of what it uses. A module, if its class makes
        it without arguments. Or a source as in a configuration: ``torchvision:resnet18``, ``file.py:function``.
    images : path or mapping
        The folder, or the configuration's section `images`, such as ``{"source": "folder", "shards": 4}``.
    layers : sequence of str or mapping
        From input to output, as in the configuration.
    out : path
        The folder of the results.
    weights : nn.Module, state dict, path or str, optional
        The weights, most often the trained module; those that the function's model has if not given, and if it does not
        draw them at random. A path or a name is what it is in the configuration; ``"random"`` takes what is drawn.
    arguments : sequence of str
        More for Snakemake, such as ``["--cores", "4"]`` or ``["evaluation"]``.
    **settings
        Sections of the configuration, as mappings: ``concepts={"expansion": 2}, explorer={"title": "Mine"}``.

    Returns
    -------
    Run
        As `gigraph.open` returns it.

    Raises
    ------
    UserError
        If the model cannot be made in another process, or is another one there; if a setting, the folder of images or a
        layer is wrong; or if the run is not complete.
    """
    from gigraph.building.build import build as run

    return run(model_factory, images, layers, out, weights=weights, arguments=arguments, **settings)


def open(
    folder: str | Path, method: str | None = None, configfile: str | Path | Sequence[str | Path] | None = None
) -> Run:
    """Open a finished run (see `gigraph.api.Run`)."""
    from gigraph.api import Run

    return Run(folder, method, configfile)


def diff(
    a: str | Path,
    b: str | Path,
    method: str | Sequence[str] | None = None,
    fdr: float = 0.05,
    images: int = 200,
    noise: str | Path | Sequence[str | Path] = (),
    noise_b: str | Path | Sequence[str | Path] = (),
) -> Difference:
    """Compare two finished runs (see `gigraph.differences.difference.difference`)."""
    from gigraph.differences.difference import difference

    return difference(a, b, method, fdr, images, noise, noise_b)
