"""How long inputs are tried: a fixed number of each kind, the same every time, or hours of new ones (--hours)."""

import time
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

ROUND = 100  # inputs between two looks at the clock


@pytest.fixture
def explore(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Return `explore(check, strategy, examples=…)`: give a check inputs, and count them."""
    hours = request.config.getoption("hours")
    kinds = sum("explore" in getattr(item, "fixturenames", ()) for item in request.session.items)

    def run(check: Callable[[Any], None], strategy: Any, examples: int) -> None:
        tried = 0

        def counted(value: Any) -> None:
            nonlocal tried
            tried += 1
            check(value)

        settings = hypothesis.settings(
            max_examples=ROUND if hours else examples, deadline=None, database=None, derandomize=not hours,
            report_multiple_bugs=False, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        end = time.monotonic() + hours * 3600 / kinds
        while True:
            settings(hypothesis.given(strategy)(lambda value: counted(value)))()
            if time.monotonic() > end:
                break
        record_property("inputs", tried)

    return run
