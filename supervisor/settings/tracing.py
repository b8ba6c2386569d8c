"""Settings of tracing."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct

from supervisor.settings.meta import FILE_RULE, SECRET, meta

_URL_RULE: Final = (
    r"^$|^https?://([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{0,256})?$"
)
_HEADERS_RULE: Final = r"^$|^[A-Za-z0-9-]{1,64}=[!-+\--~ ]{1,4096}(,[A-Za-z0-9-]{1,64}=[!-+\--~ ]{1,4096}){0,15}$"


class TracingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tracing]``: spans of executions, told to a receiver of OpenTelemetry. On when ``url`` is set."""

    url: Annotated[
        str,
        meta(
            "where spans go, by OTLP over HTTP: https://HOST:4318/v1/traces; without a path that one; empty: nowhere",
            pattern=_URL_RULE,
        ),
    ] = ""
    sample: Annotated[
        float, meta("part of the requests without a trace of their own that is traced; others say it", ge=0, le=1)
    ] = 1.0
    headers: Annotated[
        str, meta("NAME=VALUE of each delivery, separated by commas; for a token", pattern=_HEADERS_RULE, extra=SECRET)
    ] = ""
    ca: Annotated[str, meta("file with certificate authorities (PEM); empty: the host's", pattern=FILE_RULE)] = ""
    service: Annotated[str, meta("what the spans are called after", pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "gaoler"
    seconds: Annotated[float, meta("longest time for one delivery", gt=0, le=120)] = 10.0
