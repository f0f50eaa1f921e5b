"""What is generated from the saved facts is current, and says what it must."""

from __future__ import annotations

import json

from cvmprof.probes.diagnosis import diagnose

from .document import GOLDEN, PAGE, doctors, page, saved_facts


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "in tests/: python -m kernels.document"


def test_the_doctors_texts_are_current() -> None:
    kept = {path.stem.removeprefix("doctor-"): path.read_text() for path in GOLDEN.iterdir()}
    assert kept == doctors(), "in tests/: python -m kernels.document, and read what has changed"


def test_what_is_missing_has_a_reason_a_loss_and_a_way_out() -> None:
    missing = [
        observed
        for facts in saved_facts().values()
        for observed in diagnose(facts).events
        if observed.family is None
    ]
    assert [observed.event for observed in missing] == ["fault-around", "fault-around"]
    assert all(each.reason and each.lost and each.ways_out for each in missing)


def test_a_refused_backend_names_its_event() -> None:
    backends = diagnose(saved_facts()["debian-5.10"]).backends
    assert backends["auto"] is None
    assert backends["kprobe"] is None
    assert str(backends["fentry"]).startswith("request queued: this kernel lacks")
    assert str(backends["tracepoint"]).startswith("page fault: this kernel lacks the tracepoint")


def test_the_diagnosis_is_json() -> None:
    facts = saved_facts()["debian-5.10"]
    read = json.loads(json.dumps(diagnose(facts).as_json()))
    assert read["release"] == facts.release
    assert {each["event"]: each["family"] for each in read["events"]}["request ended"] == "kprobe"
