"""Which files go into a workspace, and to whom the results will belong: looked up and checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supervisor.errors import TooLarge
from supervisor.execution.request_rules import check_present
from supervisor.execution.results import Input, Inputs
from supervisor.execution.values import ExecutionRequest, Owner, SessionId, SkippedFile, new_id
from supervisor.files.service import FileService
from supervisor.identity.access import owner_of


class InputResolver:
    """Resolves requests. ``workspace_bytes``: what a workspace holds."""

    def __init__(self, files: FileService, workspace_bytes: int) -> None:
        self._files = files
        self._workspace_bytes = workspace_bytes

    async def resolve(self, request: ExecutionRequest) -> Inputs:
        """Look up the session and every input; decide whose the results will be.

        Raises:
            NotFound: a session or an input file is not there for this caller.
            InvalidRequest: the main file is not among them.
            TooLarge: the inputs do not fit into the workspace.
        """
        principal = request.principal
        files, owners = await self._files.find_inputs(principal, request.files) if request.files else ([], [])
        row = None
        if request.session_id is not None:
            row = await self._files.known_session(principal, request.session_id)
        by_name: dict[str, Input] = {}
        if request.shared_files and principal.user is not None:
            for file in await self._files.shared_files(owner_of(principal)):
                by_name[file.name] = Input(file, None)
        directories: frozenset[str] = frozenset()
        packages = None
        if row is not None:
            held = await self._files.contents(row)
            directories, packages = held.directories, held.packages
            by_name |= {file.name: Input(file, None) for file in held.files}
        skipped: list[SkippedFile] = []
        named: set[str] = set()
        for reference, file in zip(request.files, files, strict=True):
            if reference.name in named:
                skipped.append(SkippedFile(reference.name, "another input has the same name"))
                continue
            named.add(reference.name)
            by_name[reference.name] = Input(file, reference)
        check_present(request, by_name)
        self.check_room(by_name)
        return Inputs(
            session_id=row.id if row else request.session_id or SessionId(new_id()),
            owner=row.owner if row else _owner(request, owners),
            is_new=row is None,
            by_name=by_name,
            skipped=tuple(skipped),
            directories=directories,
            packages=packages,
        )

    def check_room(self, by_name: Mapping[str, Input]) -> None:
        """Refuse what a workspace does not hold.

        Raises:
            TooLarge: together they are too large.
        """
        total = sum(each.file.size_bytes for each in by_name.values())
        limit = self._workspace_bytes
        if total > limit:
            raise TooLarge(f"the input files have {total} bytes together, the workspace holds {limit}", field="files")


def _owner(request: ExecutionRequest, owners: Sequence[Owner]) -> Owner:
    """Results belong to the caller; one who named nobody works for the user whose files it brought."""
    if request.principal.user is None:
        users = {owner for owner in owners if owner.kind == "user"}
        if len(users) == 1:
            return users.pop()
    return owner_of(request.principal)
