from __future__ import annotations

from cvmprof.profiler.tables import CAUSES, CVMFS_CAUSES, NETWORK_CAUSES
from cvmprof.reports import palette


def test_every_cause_has_its_own_colour_and_meaning() -> None:
    assert set(palette.STYLES) == set(CAUSES)
    assert len({style.colour for style in palette.STYLES.values()}) == len(CAUSES)
    assert {style.family for style in palette.STYLES.values()} == set(palette.FAMILIES)


def test_the_families_are_the_sets_of_causes() -> None:
    of = {
        family: {cause for cause, style in palette.STYLES.items() if style.family == family}
        for family in palette.FAMILIES
    }
    assert of["Network"] == NETWORK_CAUSES
    assert of["Network"] | of["Daemon"] | {"fuse_queue"} == CVMFS_CAUSES
