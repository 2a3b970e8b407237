"""A failing run made shorter: faults, uses and checkouts are left out while the same law is broken."""

from __future__ import annotations

import re
from dataclasses import replace

from proving.faults import Fault
from proving.schedules import Recipe, Verdict, run
from proving.uses import Use
from proving.world import SOUND, Parts


def law(broken: str) -> str:
    """What was broken, without the names of this one run."""
    return re.sub(r"[0-9a-f]{32}|\d+", "#", broken.partition(":")[0])


def shrunk(recipe: Recipe, parts: Parts = SOUND) -> Verdict:
    """The shortest run found that breaks the same law, with its trace."""
    wanted = law(run(recipe, parts=parts).broken)

    def breaks(candidate: Recipe) -> bool:
        return law(run(candidate, parts=parts).broken) == wanted

    for fault in Fault:
        candidate = replace(recipe, without=recipe.without | {fault})
        if breaks(candidate):
            recipe = candidate
    for use in Use:
        candidate = replace(recipe, unused=recipe.unused | {use})
        if breaks(candidate):
            recipe = candidate
    for most in range(1, recipe.most_checkouts):
        candidate = replace(recipe, most_checkouts=most)
        if breaks(candidate):
            recipe = candidate
            break
    return run(recipe, trace=True, parts=parts)
