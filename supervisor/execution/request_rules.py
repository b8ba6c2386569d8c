"""What a request says beside its code: arguments, environment, the file that is run. Pure; all doors ask here.

A sandbox's walls do not rest on the environment of its programs: whoever sets ``LD_PRELOAD`` or ``PATH`` harms nobody
but his own program, which runs confined before any of it is read. So names are only bounded, and one prefix is ours.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from supervisor.errors import InvalidRequest
from supervisor.execution.values import ExecutionRequest
from supervisor.workspace.names import check_name
from supervisor.workspace.views import shown, workspace_name

MAX_ARGUMENTS: Final = 200
MAX_ARGUMENT_BYTES: Final = 65_536
MAX_VARIABLES: Final = 64
MAX_ENVIRONMENT_BYTES: Final = 32_768
MAX_SOURCES: Final = 50
RESERVED_PREFIX: Final = "GAOLER_"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def check_arguments(given: Sequence[str | int | float | bool]) -> tuple[str, ...]:
    """Turn arguments into text.

    Raises:
        InvalidRequest: one cannot be an argument, or there are too many.
    """
    arguments = tuple(str(argument) for argument in given)
    for index, argument in enumerate(arguments):
        refuse_unencodable(argument, f"args[{index}]")
    if len(arguments) > MAX_ARGUMENTS or _packed_bytes(arguments) > MAX_ARGUMENT_BYTES:
        raise InvalidRequest(f"at most {MAX_ARGUMENTS} arguments of {MAX_ARGUMENT_BYTES} bytes together", field="args")
    return arguments


def check_environment(given: Mapping[str, str] | None) -> dict[str, str]:
    """Give the variables that a program is to have beside the usual ones.

    Raises:
        InvalidRequest: a name is none or is reserved, a value cannot be one, or there are too many.
    """
    variables = dict(given or {})
    if len(variables) > MAX_VARIABLES or _packed_bytes([*variables, *variables.values()]) > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequest(
            f"at most {MAX_VARIABLES} variables of {MAX_ENVIRONMENT_BYTES} bytes together", field="env"
        )
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidRequest(
                "a name has letters, digits and '_', at most 128, and begins with no digit", field="env"
            )
        if name.startswith(RESERVED_PREFIX):
            raise InvalidRequest(f"names that begin with {RESERVED_PREFIX} are the server's own", field=f"env.{name}")
        refuse_unencodable(value, f"env.{name}")
    return variables


def check_program(code: str | None, main: str | None, sources: Sequence[str] | None) -> tuple[str, str | None]:
    """Give the code and the main file: exactly one of the two says something. Files are named as in the workspace.

    Raises:
        InvalidRequest: both or none, or a name that no file of a workspace can have.
    """
    if main is None:
        if code is None:
            raise InvalidRequest("this is required: code, or main for a file of the session", field="code")
        if sources:
            raise InvalidRequest("these belong to main, which is not given", field="sources")
        return code, None
    if code:
        raise InvalidRequest("give code or main, not both", field="main")
    return "", check_file(main, "main")


def check_sources(sources: Sequence[str] | None) -> tuple[str, ...]:
    """Give the names of further files to be compiled.

    Raises:
        InvalidRequest: there are too many, or a name that no file of a workspace can have.
    """
    if len(sources or ()) > MAX_SOURCES:
        raise InvalidRequest(f"at most {MAX_SOURCES} files", field="sources")
    return tuple(check_file(name, f"sources[{index}]") for index, name in enumerate(sources or ()))


def check_file(path: str, field: str) -> str:
    """Give a path below ``/mnt/data`` as the name that the file has in the workspace.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return check_name(workspace_name(path), field=field)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, field=field) from None


def check_present(request: ExecutionRequest, files: Collection[str]) -> None:
    """Refuse a main file, or one of its sources, that the workspace will not have.

    Raises:
        InvalidRequest: with the field, and the nearest name that there is.
    """
    wanted = [] if request.main is None else [("main", request.main)]
    wanted += [(f"sources[{index}]", name) for index, name in enumerate(request.sources)]
    for field, name in wanted:
        if name not in files:
            near = difflib.get_close_matches(name, files, n=1)
            hint = f"; did you mean {shown(near[0])}?" if near else ""
            raise InvalidRequest(f"there is no file {shown(name)} in this session{hint}", field=field)


def refuse_unencodable(text: str, field: str) -> None:
    """Refuse what no program can be given.

    Raises:
        InvalidRequest: it has a NUL, or is not valid Unicode.
    """
    if "\0" in text:
        raise InvalidRequest("it has a NUL character", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("it is not valid Unicode", field=field) from None


def _packed_bytes(texts: Sequence[str]) -> int:
    """Count as they travel to the sandbox: as JSON, where a control character takes six bytes."""
    return sum(len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) for text in texts)
