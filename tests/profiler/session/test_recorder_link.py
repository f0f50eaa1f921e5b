"""What the session makes of the recorder's messages."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cvmprof.errors import CvmprofError
from cvmprof.profiler.record import protocol
from cvmprof.profiler.session.recorder_link import RecorderLink

Ends = tuple[RecorderLink, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The session's end, and the recorder's."""
    ours, theirs = protocol.socket_pair()
    with ours, theirs:
        yield RecorderLink(ours), theirs


def test_a_late_answer_to_who_lives_is_passed_over(ends: Ends) -> None:
    link, recorder = ends
    for _ in range(2):
        protocol.send(recorder, "living", processes=[])
    protocol.send(recorder, "stopped", losses=[])
    assert link.expect("stopped", 1.0) == {"kind": "stopped", "losses": []}


def test_who_asks_who_lives_gets_the_answer(ends: Ends) -> None:
    link, recorder = ends
    protocol.send(recorder, "living", processes=[7])
    assert link.expect("living", 1.0)["processes"] == [7]


def test_another_message_is_not_taken_for_the_one_expected(ends: Ends) -> None:
    link, recorder = ends
    protocol.send(recorder, "living", processes=[])
    protocol.send(recorder, "error", fact="no room", help_text="make room")
    with pytest.raises(CvmprofError, match="no room") as raised:
        link.expect("stopped", 1.0)
    assert raised.value.help_text == "make room"


def test_a_recorder_that_ended_and_one_that_is_silent(ends: Ends) -> None:
    link, recorder = ends
    with pytest.raises(CvmprofError, match="does not answer"):
        link.expect("ready", 0.0)
    recorder.close()
    with pytest.raises(CvmprofError, match="ended unexpectedly"):
        link.expect("ready", 1.0)
