"""Frames of HTTP/2 are weighed: what brings no work has a budget, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame

from supervisor.serving.http2_meter import CREDIT, PER_REQUEST, PER_SECOND, PREFACE, FrameMeter, TooMuch
from supervisor.serving.http2_stream import Headers, read_request

PING = PingFrame(0, b"12345678").serialize()
GET: Headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/x"), (b":authority", b"localhost")]


def meter() -> FrameMeter:
    made = FrameMeter(0.0)
    made.weigh(PREFACE, 0.0)
    return made


@pytest.mark.parametrize("size", [1, 7, 9, 16, 17, 1000])
def test_frames_are_counted_wherever_the_bytes_are_cut(size: int) -> None:
    found, data = FrameMeter(0.0), PREFACE + PING * int(CREDIT)
    for at in range(0, len(data), size):
        found.weigh(data[at : at + size], 0.0)
    assert found.waiting_bytes == 0
    with pytest.raises(TooMuch):
        found.weigh(PING, 0.0)


def test_time_work_and_bodies_give_credit_back_and_never_more_than_there_was() -> None:
    found = meter()
    found.weigh(PING * int(CREDIT), 0.0)
    found.weigh(PING * int(10 * PER_SECOND), 10.0)
    found.earn(PER_REQUEST)
    found.weigh(PING * int(PER_REQUEST), 10.0)
    found.weigh(DataFrame(1, bytes(16_000)).serialize() * 100, 10.0)
    found.earn(1e9)
    found.weigh(PING * int(CREDIT), 10.0)
    with pytest.raises(TooMuch):
        found.weigh(PING, 10.0)


def test_a_client_that_pings_now_and_then_pings_for_ever() -> None:
    found = meter()
    for second in range(100_000):
        found.weigh(PING, float(second))


def test_streams_that_are_reset_cost_both_frames() -> None:
    found = meter()
    pair = HeadersFrame(1, b"x", flags=["END_HEADERS"]).serialize() + RstStreamFrame(1, error_code=8).serialize()
    with pytest.raises(TooMuch):
        found.weigh(pair * (int(CREDIT) // 2 + 1), 0.0)


@pytest.mark.parametrize(
    "frames",
    [
        [HeadersFrame(1, b"x" * 16_000), *(ContinuationFrame(1, b"x" * 10_000) for _ in range(2))],
        [HeadersFrame(1, b"x"), *(ContinuationFrame(1, b"") for _ in range(9))],
        [DataFrame(1, b"x" * 16_385)],
    ],
    ids=["large", "many", "one large frame"],
)
def test_header_blocks_and_frames_are_bounded(frames: list[Frame]) -> None:
    with pytest.raises(TooMuch):
        meter().weigh(b"".join(frame.serialize() for frame in frames), 0.0)


def test_what_is_not_complete_is_known() -> None:
    found = FrameMeter(0.0)
    assert not found.waiting_bytes
    for data, waiting in (
        (PREFACE[:5], True),
        (PREFACE[5:], False),
        (PING[:3], True),
        (PING[3:12], True),
        (PING[12:], False),
        (HeadersFrame(1, b"x").serialize(), True),
        (ContinuationFrame(1, b"y", flags=["END_HEADERS"]).serialize(), False),
    ):
        found.weigh(data, 0.0)
        assert bool(found.waiting_bytes) is waiting


def test_a_request_has_one_host_whichever_way_it_is_said() -> None:
    assert read_request(GET) == (0, b"GET", b"/x", [(b"host", b"localhost")])
    by_header = [*GET[:3], (b"host", b"localhost"), (b"x", b"y")]
    assert read_request(by_header) == (0, b"GET", b"/x", [(b"host", b"localhost"), (b"x", b"y")])
    assert read_request([*GET, (b"host", b"localhost")])[0] == 0
    assert read_request([*GET, (b"host", b"other")])[0] == 400
    assert read_request(GET[:3])[0] == 400
