"""Random requests: from the server's own OpenAPI description, and photos with damaged bytes. Never a 5xx."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok

from tests.serve.conftest import RunningServer
from tests.small_model import photo

# The long version (`make fuzz-serve`) asks for more.
INPUTS = int(os.environ.get("BIN_COUNTER_FUZZ", "200"))
PHOTO = photo(3)


def test_damaged_photos_are_counted_or_refused(server: RunningServer) -> None:
    with httpx.Client(timeout=30) as client:

        @settings(max_examples=INPUTS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(
            changes=st.lists(st.tuples(st.integers(0, len(PHOTO) - 1), st.integers(0, 255)), max_size=12),
            cut=st.none() | st.integers(0, len(PHOTO)),
            insert=st.tuples(st.integers(0, len(PHOTO)), st.binary(max_size=64)),
            kind=st.sampled_from(["image/jpeg", "image/png", "application/octet-stream"]),
        )
        def damage(changes: list[tuple[int, int]], cut: int, insert: tuple[int, bytes], kind: str) -> None:
            data = bytearray(PHOTO)
            for place, value in changes:
                data[place] = value
            data[insert[0] : insert[0]] = insert[1]
            reply = client.post(server.predict, content=bytes(data[:cut]), headers={"Content-Type": kind})
            assert reply.status_code in (200, 400), reply.text
            content = reply.json()
            assert ("predictions" in content) if reply.status_code == 200 else content["error"] and content["reason"]

        damage()
    assert server.process.poll() is None


def test_requests_drawn_from_the_openapi_description_meet_no_5xx(server: RunningServer) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 10
    examples = max(INPUTS // 20, 5)
    for operation in operations:

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error])

        ask()
    assert httpx.post(server.predict, content=PHOTO).is_success


@pytest.mark.slow
def test_ten_minutes_at_saturation_with_bad_input_leave_it_as_it_was(tmp_path: Path) -> None:
    """The soak: see benchmarks/soak.py, which `make soak-serve` runs for ten minutes; here for twenty seconds."""
    from benchmarks.soak import soak
    from tests.small_model import write_small_bundle

    result = soak(write_small_bundle(tmp_path / "model").folder, seconds=20, log=tmp_path / "log")
    assert result.undeserved == {}
    assert result.growth < 1.15
