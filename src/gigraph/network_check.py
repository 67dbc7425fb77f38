"""The first look at a model: whether it can be explained as configured, and what its classes are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gigraph.images.listing import output_names
from gigraph.model.models import check_own_weights
from gigraph.subject import Subject
from gigraph.worlds import registry


def checked(settings: dict[str, Any], compute: Any) -> tuple[Subject, list[str]]:
    """Open a model on the CPU, and see that layers, images, classes and settings go together.

    Parameters
    ----------
    settings : dict
        Of the stage ``network``.
    compute : Compute
        Its device is not used: one grey image is all that runs.

    Returns
    -------
    subject : Subject
    classes : list of str
        The names of the outputs.

    Raises
    ------
    UserError
        If the model, its weights, a layer or the class folders are not what the configuration says.
    """
    check_own_weights(*(settings["model"][key] for key in ("source", "weights", "arguments")))
    here: Any = SimpleNamespace(**{**vars(compute), "device": "cpu"})
    subject = Subject(settings, here, list(settings["layers"]))
    network = subject.traced
    if settings["world"] is not None:
        classes = list(registry.get(settings["world"]).classes)
    else:
        classes = output_names(settings["images"], network.outputs, settings["classes"], network.task)
    network.check_varies()
    subject.contribution(settings["contribution"])
    return subject, classes
