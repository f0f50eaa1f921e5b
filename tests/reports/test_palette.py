from __future__ import annotations

from cvmprof.profiler.tables import CAUSES, GPU_OP_KIND, NETWORK_CAUSES
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
    assert of["Daemon"] == {"daemon", "daemon_lock", "cache_read", "catalog", "decompress",
                            "cache_write"}  # fmt: skip


def test_a_family_has_the_sum_of_its_causes() -> None:
    spent = {"cpu": 43, "first_byte": 30, "transfer": 27, "unknown": 0}
    assert list(palette.by_family(spent).items()) == [("Network", 57), ("CPU", 43)]
    assert palette.by_family({}) == {}


def test_families_and_what_devices_do_have_colours_of_their_own() -> None:
    assert len(set(palette.FAMILY_COLOURS.values())) == len(palette.FAMILIES)
    of_gpu = {kind: style for kind, style in palette.DEVICE_STYLES.items() if kind != "run"}
    stalls = set(palette.FAMILY_COLOURS.values())
    assert len({colour for _, colour in of_gpu.values()} | stalls) == len(of_gpu) + len(stalls)
    assert set(palette.DEVICE_STYLES) == set(GPU_OP_KIND.categories)
