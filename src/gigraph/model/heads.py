"""The end of a traced model: which task it is for, and its scores [N, K] (`gigraph.method.tasks`).

A final softmax or sigmoid says the task and is left out, so that what is explained are logits. One output becomes two
scores, one for each side, by a linear layer behind it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gigraph.errors import UserError
from gigraph.method.tasks import centred
from gigraph.model.tracing import Trace, between, drop_unused, is_a
from gigraph.reporting import log

ENDINGS: dict[str, tuple[Any, ...]] = {
    "softmax": (nn.Softmax, nn.LogSoftmax, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax,
                torch.special.softmax, torch.special.log_softmax, "softmax", "log_softmax"),
    "sigmoid": (nn.Sigmoid, nn.LogSigmoid, F.sigmoid, F.logsigmoid, torch.sigmoid, torch.special.expit, "sigmoid"),
}  # fmt: skip
"""What logits are turned into probabilities by, or their logarithms."""
RESHAPES: tuple[Any, ...] = (
    nn.Flatten, nn.Unflatten, torch.flatten, torch.squeeze, torch.unsqueeze, torch.reshape, torch.ravel,
    operator.getitem, "flatten", "squeeze", "unsqueeze", "reshape", "view", "ravel",
)  # fmt: skip
LOGARITHMS: tuple[Any, ...] = (torch.log, "log")
TASK = "model.task"
SIDES = "gigraph_sides"
"""The layer that makes two scores of one output."""
PROBABLE = 1e-4
"""How near to 1 probabilities add up to."""
LEAST = 1e-6
"""Of the largest score: what scores must differ by between images."""


def read_head(traced: Trace, name: str, task: str = "auto", reference: float = 0.0) -> str:
    """Settle a model's task, and let its graph end in the scores of that task.

    Parameters
    ----------
    traced : Trace
        Changed in place; ``end`` says where the nodes begin that are the model's output in some form.
    name : str
        What to call the model in messages.
    task : {"auto", "classes", "labels", "binary", "regression"}
        ``auto``: by the number of outputs, and by the softmax or sigmoid at the end.
    reference : float
        Of a regression: the value that both sides are measured from.

    Returns
    -------
    str
        The task.

    Raises
    ------
    UserError
        If the task is not clear or contradicts the model.
    """
    graph = traced.module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    last, dropped = output.args[0], []

    def plain(node: fx.Node) -> fx.Node:
        """Return what a node only reshapes, where each image has one number."""
        while _one(node) and is_a(traced.module, node, RESHAPES) and _one(node.all_input_nodes[0]):
            dropped.append(node)
            node = node.all_input_nodes[0]
        return node

    shape = last.meta["shape"]
    one = math.prod(shape[1:]) == 1
    last = plain(last)
    logarithm = is_a(traced.module, last, LOGARITHMS)
    behind = last.all_input_nodes[0] if logarithm else last
    ending = next((key for key, kinds in ENDINGS.items() if is_a(traced.module, behind, kinds)), None)
    task = _task(task, name, one, math.prod(shape[1:]), ending)
    if ending and task != "regression":
        dropped += [last, behind] if logarithm else [last]
        last = plain(behind.all_input_nodes[0])
    if one:
        last = _two_sides(traced.module, last, reference if task == "regression" else None)
    output.args = (last,)
    traced.aliases |= {node.name: last.name for node in dropped}
    drop_unused(graph)
    traced.module.recompile()
    here = {node.name for node in graph.nodes}
    traced.modules = {path: at if at in here else last.name for path, at in traced.modules.items()}
    traced.between = between(graph)
    traced.end = traced.between.index(last.all_input_nodes[0] if one else last)
    return task


def _one(node: fx.Node) -> bool:
    """Return whether a node is one number per image."""
    return node.meta.get("batched", False) and math.prod(node.meta["shape"]) == 1


def _task(task: str, name: str, one: bool, outputs: int, ending: str | None) -> str:
    """Return the task that is meant, or say why there is none."""
    if task == "auto":
        if one and ending != "sigmoid":
            raise UserError(
                f"{name} has one output: say in {TASK} whether it is the logit of two classes (binary) or a value "
                "(regression)"
            )
        return "binary" if one else "labels" if ending == "sigmoid" else "classes"
    if one != (task in ("binary", "regression")):
        right = "binary or regression" if one else "classes or labels"
        raise UserError(f"{TASK}: {task}, but {name} has {outputs} output{'s' * (not one)}; take {right}")
    if (task, ending) in {("classes", "sigmoid"), ("labels", "softmax"), ("binary", "softmax")}:
        raise UserError(f"{TASK}: {task}, but {name} ends in a {ending}; take {TASK}: auto")
    return task


def _two_sides(module: fx.GraphModule, node: fx.Node, reference: float | None) -> fx.Node:
    """Return a new node behind one that is one number x per image: -x and x [N, 2], x from the reference."""
    graph = module.graph
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    sides = nn.Linear(1, 2, bias=reference is not None, device=first.device, dtype=first.dtype)
    sides.weight = nn.Parameter(torch.tensor([[-1.0], [1.0]]).to(first), requires_grad=False)
    if reference is not None:
        sides.bias = nn.Parameter(torch.tensor([reference, -reference]).to(first), requires_grad=False)
    module.add_submodule(SIDES, sides)
    with graph.inserting_after(node):
        flat = node if len(node.meta["shape"]) == 2 else graph.call_method("reshape", (node, (-1, 1)))
    with graph.inserting_after(flat):
        both = graph.call_module(SIDES, (flat,))
    flat.meta |= {"shape": (1, 1), "batched": True}
    both.meta |= {"shape": (1, 2), "batched": True}
    return both


@torch.no_grad()
def check_varies(module: fx.GraphModule, probe: Tensor, task: str, name: str) -> None:
    """Refuse a model that says the same of every image, or whose scores are no logits.

    Parameters
    ----------
    module : fx.GraphModule
        Ends in scores.
    probe : Tensor [N, C, H, W]
        Images of several kinds.
    task, name : str

    Raises
    ------
    UserError
        If the scores, from their mean where only this counts, are the same for all; or if those of ``classes`` are
        probabilities, in a form that the trace does not show.
    """
    scores = module(probe)
    read = centred(scores, task)
    if (read - read[:1]).abs().max() <= LEAST * scores.abs().max():
        raise UserError(
            f"{name} gives every image the same scores, so that nothing can be attributed: its head is constant, such "
            "as one of zeros; give trained weights (model.weights)"
        )
    if task == "classes" and bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < PROBABLE).all()):
        raise UserError(
            f"{name} gives probabilities, not logits (they are positive and add up to 1), and a softmax would be taken "
            "of them; let its forward return what goes into its softmax"
        )
    if task == "binary" and bool(((scores[:, 1] >= 0) & (scores[:, 1] <= 1)).all()):
        log.warning(
            "%s: its output lay between 0 and 1 for all that was tried; if it is a probability, let its forward return "
            "the logit: a sigmoid is taken of it", name,
        )  # fmt: skip
