"""The menagerie, as the rest of the package sees it."""

from gigraph.worlds.menagerie.draw import paint
from gigraph.worlds.menagerie.scene import (
    BARE,
    CUE,
    FIXTURES,
    LOOKS,
    PLACES,
    PREFERRED_PLACE,
    SHORTCUT,
    VALUES,
    scene,
)
from gigraph.worlds.world import World

WORLD = World(
    name="menagerie",
    title="The menagerie",
    looks=LOOKS,
    values=VALUES,
    fixtures=FIXTURES,
    cue=CUE,
    shortcut=SHORTCUT,
    places=PLACES,
    preferred=PREFERRED_PLACE,
    bare=BARE,
    rest=("face", BARE),
    scene=scene,
    paint=paint,
)
