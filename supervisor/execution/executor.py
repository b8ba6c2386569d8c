"""One execution from request to result: admission, inputs, jail, program, outputs.

The way: look the inputs up, get a place, have a cell, write the inputs, compile if the language does, run, read back
what changed, put it into the session in one transaction. Cancelling at any point destroys the jail and stores nothing.
A request for a lasting interpreter goes to :mod:`supervisor.live.sessions` instead, where its session lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from supervisor.activity.timeline import steps
from supervisor.admission.admission import Admission
from supervisor.errors import InvalidRequest
from supervisor.execution.hints import give_hint
from supervisor.execution.in_jail import InJail, Present, outcome_of, refusals_typed, result_of
from supervisor.execution.inputs import InputResolver
from supervisor.execution.request_context import work_for_session
from supervisor.execution.results import Collector, Input, Inputs, Results
from supervisor.execution.tier import TierRules, highest
from supervisor.execution.values import (
    MAX_STDIN_BYTES,
    ExecutionRequest,
    ExecutionResult,
    Listener,
    Principal,
    SessionId,
    StoredFile,
    Tier,
    new_id,
)
from supervisor.identity.access import owner_of
from supervisor.identity.derived import DerivedIds
from supervisor.jailer.client import JailerClient
from supervisor.live.lasting import lasting_session
from supervisor.live.sessions import LiveSessions
from supervisor.network.environment import OFFLINE
from supervisor.network.grants import Network
from supervisor.policy import Policy
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.runtimes.language_view import LanguageTable


@dataclass(frozen=True, slots=True)
class Assistance:
    """A program of our own."""

    code: str
    stdin: bytes
    wall_seconds: float


class Executor:
    """Runs requests. Everything it needs comes in."""

    def __init__(
        self,
        jailer: JailerClient,
        resolver: InputResolver,
        work: InJail,
        admission: Admission,
        live: LiveSessions,
        network: Network,
        policy: Policy,
        languages: Mapping[str, InstalledLanguage],
        *,
        catalogue: LanguageTable,
        ids: DerivedIds,
        tiers: TierRules,
    ) -> None:
        self._jailer = jailer
        self._resolver = resolver
        self._work = work
        self._admission = admission
        self._live = live
        self._network = network
        self._policy = policy
        self._languages = languages
        self._catalogue = catalogue
        self._ids = ids
        self._tiers = tiers

    async def execute(
        self,
        request: ExecutionRequest,
        listener: Listener | None = None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Run the request to its end; ``listener`` is told output as it is produced.

        ``on_admitted`` is called when it has got its place.

        Raises:
            InvalidRequest: no such language, a tier below what applies, or an input's name cannot be used; ``field``
                says where.
            Unsupported: a lasting interpreter, which the policy does not have; a language that is not installed; a tier
                that this host does not give.
            NotFound: a session or an input file is not there for this caller.
            TooLarge: the inputs do not fit into the workspace.
            Busy: no place.
            SandboxFailed: our own fault; nothing was stored.
        """
        if len(request.stdin) > MAX_STDIN_BYTES:
            raise InvalidRequest(f"at most {MAX_STDIN_BYTES} bytes of UTF-8", field="stdin")
        language = self._language(request)
        tier = self._tiers.choose(request.principal, language.language.name, request.tier)
        self._network.check(request.egress)
        if self._network.enabled and not self._network.reaches(request.egress):
            # The environment of its language is that of a network.
            request = replace(request, environment={**OFFLINE, **request.environment})
        lasting = lasting_session(request, self._policy, self._ids)
        if lasting is not None:
            request = replace(request, session_id=lasting)
            work_for_session(lasting)
            return await self._live.execute(request, language, tier, listener, on_admitted)
        timeline = steps()
        inputs = await self._resolver.resolve(request)
        work_for_session(inputs.session_id)
        timeline.passed("inputs")
        async with self._admission.place(request.principal) as standing:
            timeline.passed("admission")
            if on_admitted is not None:
                on_admitted()
            with refusals_typed():
                async with (
                    self._jailer.open_jail(
                        self._policy.name, language.profile, share=standing.share, modest=standing.modest, tier=tier
                    ) as jail,
                    self._network.open_grant(jail, request.principal, inputs.session_id, request.egress) as grant,
                ):
                    timeline.passed("cell")
                    present = Present()
                    await self._work.place(request, language, inputs, jail, present)
                    timeline.passed("inputs")
                    output = Collector(listener=listener)
                    ended = await self._work.run_alone(request, language, jail, output)
                    timeline.passed("code")
                    await grant.ask()
                    results = Results(skipped=list(inputs.skipped))
                    await self._work.collect(jail, inputs, results, present)
                    await self._work.take_shown(request, language, jail, results)
                    for refusal in await grant.explanations():
                        await output.add(refusal)
                    await give_hint(output, outcome_of(ended.outcome), network=self._network.reaches(request.egress))
            await self._work.keep(inputs, results)
        timeline.passed("export")
        return replace(result_of(inputs, ended, output, results), tier=tier, spent=timeline.spent)

    def _language(self, request: ExecutionRequest) -> InstalledLanguage:
        """Find the language that is named, or that the main file's name tells."""
        name = request.language
        if not name and request.main is not None:
            name = self._catalogue.of_file(request.main)
        language = self._languages.get(name.lower())
        if language is None:
            raise self._catalogue.refusal(name)
        if request.sources and not language.takes_sources:
            raise InvalidRequest(
                f"{language.language.title} finds further files by itself: leave this out", field="sources"
            )
        return language

    async def assist(
        self, principal: Principal, work: Assistance, inputs: Sequence[StoredFile], least: Tier = "nsjail"
    ) -> tuple[ExecutionResult, tuple[StoredFile, ...]]:
        """Run a Python program of our own over files of a caller, in a sandbox as any other.

        What it writes is stored but belongs to no session: it can be read for some minutes. ``least``: the tier of the
        sandbox that the files come from.

        Raises:
            Busy: no place.
            Unsupported: the caller's tier is one that this host does not give.
            TooLarge: the files do not fit into a workspace.
            SandboxFailed: our own fault.
        """
        language = self._languages["python"]
        tier = highest(least, self._tiers.choose(principal, language.language.name))
        request = ExecutionRequest(
            principal, "python", work.code, stdin=work.stdin, wall_seconds=work.wall_seconds, stateful=False
        )
        by_name = {file.name: Input(replace(file, read_only=True), None) for file in inputs}
        self._resolver.check_room(by_name)
        found = Inputs(SessionId(new_id()), owner_of(principal), is_new=True, by_name=by_name, skipped=())
        async with self._admission.place(principal) as standing:
            with refusals_typed():
                async with self._jailer.open_jail(
                    self._policy.name, language.profile, share=standing.share, modest=standing.modest, tier=tier
                ) as jail:
                    present = Present()
                    await self._work.place(request, language, found, jail, present)
                    output = Collector()
                    ended = await self._work.run_alone(request, language, jail, output)
                    results = Results()
                    await self._work.collect(jail, found, results, present)
        return result_of(found, ended, output, results), tuple(results.new)
