from __future__ import annotations

import re
from itertools import combinations

import pytest

from cvmprof.profiler.tables import CAUSES, GPU_OP_KIND, NETWORK_CAUSES
from cvmprof.reports import palette
from cvmprof.reports.page.templating import source

from .colours import SEEN_BY, contrast, distance

COLOUR = re.compile(r"#[0-9a-f]{6}\b")
#: what stands in the same lanes as the causes
IN_LANES = {
    **{cause: style.colour for cause, style in palette.STYLES.items()},
    "failed": palette.FAILED_COLOUR,
    **dict(palette.DEVICE_STYLES.values()),
}


def closest(colours: dict[str, str], eyes: str) -> tuple[float, str, str]:
    return min(
        (distance(colours[one], colours[other], eyes), one, other)
        for one, other in combinations(colours, 2)
    )


def test_every_cause_has_its_own_colour_and_meaning() -> None:
    assert set(palette.STYLES) == set(CAUSES)
    assert {style.family for style in palette.STYLES.values()} == set(palette.FAMILIES)
    assert len({style.meaning for style in palette.STYLES.values()}) == len(CAUSES)


def test_no_two_meanings_share_a_colour_and_none_is_nearly_another() -> None:
    assert len(set(palette.MEANINGS.values())) == len(palette.MEANINGS)
    near, one, other = closest(palette.MEANINGS, "everybody else")
    assert near > 0.05, (one, other)


def test_the_style_sheet_and_the_script_use_no_colour_that_has_a_meaning() -> None:
    written = COLOUR.findall(source("page.css") + source("page.js") + source("page.html"))
    assert written
    assert not set(written) & set(palette.MEANINGS.values())


@pytest.mark.parametrize(("eyes", "least"), [
    ("everybody else", 0.08), ("protanopes", 0.05), ("deuteranopes", 0.05), ("tritanopes", 0.05),
])  # fmt: skip
def test_causes_can_be_told_apart_by_everybody(eyes: str, least: float) -> None:
    causes = {cause: style.colour for cause, style in palette.STYLES.items()}
    near, one, other = closest(causes, eyes)
    assert near > least, (one, other)


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_what_stands_in_the_same_lanes_can_be_told_apart(eyes: str) -> None:
    near, one, other = closest(IN_LANES, eyes)
    assert near > 0.028, (one, other)


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize("family", palette.FAMILIES)
def test_members_of_a_family_can_be_told_apart(family: str, eyes: str) -> None:
    members = {
        cause: style.colour for cause, style in palette.STYLES.items() if style.family == family
    }
    near, one, other = closest(members, eyes)
    assert near > 0.06, (one, other)


@pytest.mark.parametrize("colour", palette.MEANINGS.values())
def test_text_on_a_colour_can_be_read(colour: str) -> None:
    assert contrast(palette.ink_on(colour), colour) >= 4.5


@pytest.mark.parametrize("colour", IN_LANES.values())
def test_a_piece_can_be_told_from_the_paper(colour: str) -> None:
    assert distance(colour, "#ffffff") > 0.09


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


def test_a_sum_is_held_by_the_largest_cause_of_its_largest_family() -> None:
    assert palette.held_by({"cpu": 43, "first_byte": 30, "transfer": 27}) == "first_byte"
    assert palette.held_by({"cpu": 57, "first_byte": 20, "transfer": 23}) == "cpu"
    assert palette.held_by({}) == "blocked"


def test_everything_that_devices_do_has_a_colour() -> None:
    assert set(palette.DEVICE_STYLES) == set(GPU_OP_KIND.categories)
