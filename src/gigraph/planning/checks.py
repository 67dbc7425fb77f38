"""Checks of the configuration against what is only known once jobs run."""

from gigraph.errors import UserError


def check_concepts(layer: str, expansion: float, channels: int, pfvs: int) -> None:
    """Raise a `UserError` if more concepts are asked for than there are PFVs."""
    k = expansion * channels
    if k > pfvs:
        raise UserError(
            f"layers.{layer}: {expansion:g} x {channels} channels are {k:g} concepts, but there are {pfvs} PFVs; "
            "lower concepts.expansion or raise sampling.pfvs_per_image"
        )
