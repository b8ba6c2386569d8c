"""What is lost of the output on its way from worker to gateway is counted, to the byte, and told in its place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.execution.values import OutputPiece
from supervisor.fleet.messages import Output
from supervisor.fleet.told_output import Checked, Counted

PIECES = st.builds(
    OutputPiece, st.sampled_from(["stdout", "stderr"]), st.binary(max_size=5), st.sampled_from([0, 0, 0, 1000])
)


async def passed_on(pieces: list[OutputPiece], arrives: list[bool]) -> list[OutputPiece]:
    heard: list[OutputPiece] = []
    on_the_way: list[Output] = []

    async def keep(piece: OutputPiece) -> None:
        heard.append(piece)

    async def say(news: Output) -> None:
        on_the_way.append(news)

    counted, checked = Counted(say), Checked(keep)
    for piece in pieces:
        await counted.hear(piece)
    for news, arrived in zip(on_the_way, arrives, strict=True):
        if arrived:
            await checked.hear(news)
    await checked.end(counted.totals)
    return heard


def total(pieces: list[OutputPiece], stream: str) -> int:
    return sum(each.omitted_bytes + len(each.untrusted_data) for each in pieces if each.stream == stream)


@given(st.lists(st.tuples(PIECES, st.booleans()), max_size=12))
async def test_whatever_is_lost_all_bytes_are_told_or_told_missing(said: list[tuple[OutputPiece, bool]]) -> None:
    pieces = [piece for piece, _ in said]
    heard = await passed_on(pieces, [arrives for _, arrives in said])
    for stream in ("stdout", "stderr"):
        assert total(heard, stream) == total(pieces, stream)
        arrived = b"".join(each.untrusted_data for each, arrives in said if arrives and each.stream == stream)
        assert b"".join(each.untrusted_data for each in heard if each.stream == stream) == arrived


async def test_a_gap_is_told_where_it_is() -> None:
    pieces = [OutputPiece("stdout", each) for each in (b"a", b"bc", b"def", b"g", b"hi")]
    assert await passed_on(pieces, [True, False, False, True, False]) == [
        OutputPiece("stdout", b"a"),
        OutputPiece("stdout", b"g", 5),
        OutputPiece("stdout", b"", 2),
    ]


async def test_what_comes_whole_arrives_as_it_was() -> None:
    pieces = [OutputPiece("stdout", b"a"), OutputPiece("stderr", b"b", 7), OutputPiece("stdout", b"c")]
    assert await passed_on(pieces, [True] * 3) == pieces
