"""Attribution methods behind one interface: from a path of concepts to what each concept does for a target.

====================  ======================================================================================
``gig``               generalized integrated gradients (Eqs. 3 to 7), the paper's
``gradient_x_input``  the gradient at the end of the path, times what each concept adds to it
====================  ======================================================================================

Each is a module with a function ``attribute(path, images, targets)`` and a constant ``COMPLETE``: whether its
attributions add up to the change of the score along the path. Modules are imported by name when they are used, so that
a change of one reruns no attribution by another (`gigraph.planning.plan` adds `source_of` to what a table is made
from).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from gigraph.attributors.path import ConceptPath
    from gigraph.method.gig import Attribution, Decomposition

MODULES = {
    "gig": "gig",
    "gradient_x_input": "gradient_x_input",
}


def source_of(method: str) -> Path:
    """Return the file that holds an attribution method."""
    return Path(__file__).with_name(f"{MODULES[method]}.py")


def attribute(method: str, path: ConceptPath, images: list[Decomposition], targets: Tensor) -> list[Attribution]:
    """Attribute each image's targets to its concepts.

    Parameters
    ----------
    method : str
        Name of the attribution method.
    path : ConceptPath
        From a start to the reconstructions of the images, with the score along it.
    images : list of Decomposition
        The images, N of them.
    targets : Tensor of int64 [N, T]
        Targets of each image.

    Returns
    -------
    list of Attribution
        One per image, of the unit of the score.
    """
    return _module(method).attribute(path, images, targets)


def is_complete(method: str) -> bool:
    """Whether attributions by a method add up to S(X~) - S(start), within the path's tolerance."""
    return _module(method).COMPLETE


def _module(method: str) -> Any:
    return importlib.import_module(f"gigraph.attributors.{MODULES[method]}")
