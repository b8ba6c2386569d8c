"""Tiers as agents see them: the same words as over HTTP."""

from __future__ import annotations

import pytest

from tests.daemon import Daemon
from tests.mcp import connected

pytestmark = pytest.mark.root


async def test_a_tier_may_be_asked_for_and_is_told(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        assert (await agent.call("execute_code", code="1", tier="nsjail")).data["tier"] == "nsjail"
        assert (await agent.call("run_command", command="true")).data["tier"] == "nsjail"


async def test_one_that_is_not_to_be_had_is_refused_with_the_words_of_http(daemon: Daemon) -> None:
    said = daemon.try_execute("1", tier="microvm").json["message"]
    async with connected(daemon) as agent:
        for tool, arguments in (
            ("execute_code", {"code": "1"}),
            ("execute_code", {"code": "1", "tools": [{"name": "look"}]}),
            ("run_command", {"command": "true"}),
            ("start_process", {"command": "sleep 1000"}),
        ):
            refused = await agent.call(tool, tier="microvm", **arguments)
            assert said in refused.refusal, tool
        assert "tier" in (await agent.call("execute_code", code="1", tier="docker")).refusal


async def test_what_there_is_is_listed_and_in_the_policy(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        listed = await agent.call("list_languages")
        assert [(each["name"], each["available"]) for each in listed.data["tiers"]] == [
            ("nsjail", True),
            ("microvm", False),
        ]
        assert "tier microvm: " in listed.text
        assert "; not to be had here: " in listed.text
        policy = (await agent.client.read_resource("gaoler://policy")).contents[0]
        assert "* tier microvm: " in policy.text  # type: ignore[union-attr]
