from __future__ import annotations

from collections.abc import Iterator

import pytest

from cvmprof.tests.reports.page.browser import Browser, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, 1400 pixels wide."""
    with chromium() as session:
        session.resize(1400, 1000)
        yield session
