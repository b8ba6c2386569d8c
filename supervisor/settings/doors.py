"""Settings of the doors: HTTP, TLS, MCP, and by what callers are known."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from supervisor.settings.meta import FILE_RULE, RATE_RULE, meta


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[http]``: the HTTP door."""

    authentication: Annotated[bool, meta("ask for a credential; false only with a loopback or unix bind")] = True
    body_bytes: Annotated[int, meta("largest JSON body", ge=1024, le=1 << 30)] = 50 << 20
    code_characters: Annotated[int, meta("longest program", ge=1, le=1 << 26)] = 1_000_000
    base64_bytes: Annotated[
        int, meta("largest file that is given as base64 inside JSON; larger ones are downloaded", ge=1, le=1 << 30)
    ] = 25 << 20
    cors_origins: Annotated[
        str,
        meta(
            "origins whose pages may call, separated by commas, as https://chat.example.org; empty: none",
            pattern=r"^$|^https?://[A-Za-z0-9.:\[\]-]+(,https?://[A-Za-z0-9.:\[\]-]+)*$",
        ),
    ] = ""
    documentation: Annotated[bool, meta("serve /openapi.json and /docs, to anybody")] = True
    dashboard: Annotated[
        bool, meta("serve the operators' page at /dashboard, to anybody; what it shows needs the master key")
    ] = True
    public_url: Annotated[
        str,
        meta(
            "where people's browsers reach this server, for links to files; empty: as the caller does",
            pattern=r"^$|^https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*)?$",
        ),
    ] = ""
    link_minutes: Annotated[float, meta("how long a link to a file holds", gt=0, le=60 * 24 * 366)] = 60.0
    connections: Annotated[
        int, meta("connections at once; when one more comes, the longest idle one is closed", ge=16, le=100_000)
    ] = 4096
    connections_per_address: Annotated[
        int,
        meta("of one address, one IPv6 /64, or one user of a unix socket; a proxy is one address", ge=8, le=100_000),
    ] = 3072
    header_seconds: Annotated[float, meta("longest time for the head of a request", gt=0, le=600)] = 20.0
    body_seconds: Annotated[
        float, meta("longest wait for each 64 KiB of a body; the time we need ourselves is not counted", gt=0, le=3600)
    ] = 60.0
    send_seconds: Annotated[
        float, meta("longest wait for a client to take each 64 KiB of an answer", gt=0, le=3600)
    ] = 60.0
    idle_seconds: Annotated[float, meta("a connection on which nothing is asked is closed after it", gt=0, le=3600)] = (
        75.0
    )

    trusted_proxies: Annotated[
        str,
        meta(
            "networks of proxies whose X-Forwarded headers are believed, separated by commas; unix: of a unix bind",
            pattern=r"^$|^(unix|[0-9A-Fa-f.:]+(/[0-9]{1,3})?)(,(unix|[0-9A-Fa-f.:]+(/[0-9]{1,3})?))*$",
        ),
    ] = ""
    forwarded_header: Annotated[
        Literal["x-forwarded", "forwarded"],
        meta("what these proxies say it in: X-Forwarded-For, -Proto and -Host, or Forwarded; the other is not read"),
    ] = "x-forwarded"
    root_path: Annotated[
        str,
        meta(
            "prefix under which a proxy shows this server, as /code, if it does not take it off",
            pattern=r"^$|^(/[A-Za-z0-9._~-]+)+$",
        ),
    ] = ""
    http2: Annotated[bool, meta("speak HTTP/2 too, over TLS, with clients that ask for it")] = True
    failed_authentications: Annotated[
        str,
        meta("credentials that do not hold, of one address (IPv6: /64), as N/SECONDS; then 429", pattern=RATE_RULE),
    ] = "10/60"
    shut_out_seconds: Annotated[
        float, meta("an address is shut out for 30 s, then twice as long, and no longer than this", ge=30, le=86_400)
    ] = 900.0


class TlsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tls]``: HTTPS instead of HTTP, when there is a certificate. Files that change are read again."""

    certificate: Annotated[
        str, meta("file with the certificate and its chain, PEM; empty: plain HTTP", pattern=FILE_RULE)
    ] = ""
    key: Annotated[str, meta("file with its private key, PEM, without a password", pattern=FILE_RULE)] = ""
    client_ca: Annotated[
        str, meta("authorities (PEM) of clients: each client needs a certificate of one", pattern=FILE_RULE)
    ] = ""
    client_certificate: Annotated[
        str, meta("certificate and chain (PEM) that commands show to a daemon that asks for one", pattern=FILE_RULE)
    ] = ""
    client_key: Annotated[
        str, meta("its private key, PEM, without a password; empty: it is in the same file", pattern=FILE_RULE)
    ] = ""
    handshake_seconds: Annotated[float, meta("longest time for a handshake", gt=0, le=120)] = 10.0
    handshakes: Annotated[
        int, meta("handshakes at once; when one more comes, the longest under way is closed", ge=16, le=100_000)
    ] = 512


class McpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[mcp]``: the MCP door, at ``/mcp`` of the same address."""

    enabled: Annotated[bool, meta("serve MCP")] = True
    allowed_hosts: Annotated[
        str,
        meta(
            "names in the Host header beside loopback, bind, public_url and addresses, separated by commas; * is any",
            pattern=r"^(\*|[A-Za-z0-9.:_\[\]-]+(,[A-Za-z0-9.:_\[\]-]+)*|)$",
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        meta(
            "origins of pages that may call, separated by commas, beside this server's own; empty: no other",
            pattern=r"^$|^https?://[A-Za-z0-9.:\[\]-]+(,https?://[A-Za-z0-9.:\[\]-]+)*$",
        ),
    ] = ""
    body_bytes: Annotated[int, meta("largest request", ge=4096, le=1 << 28)] = 16 << 20
    sessions: Annotated[int, meta("connections (MCP sessions) at once", ge=1, le=100_000)] = 2000
    sessions_per_user: Annotated[
        int, meta("of one user; the oldest that is idle gives way to a new one", ge=1, le=100_000)
    ] = 64
    idle_minutes: Annotated[float, meta("an unused connection is forgotten after it", gt=0, le=24 * 60)] = 30.0
    resume_seconds: Annotated[
        float, meta("a lost stream may be taken up again for so long; then what it ran is ended", ge=0, le=600)
    ] = 15.0
    text_bytes: Annotated[int, meta("of each of stdout and stderr that is put into a result", ge=256, le=1 << 20)] = (
        16 << 10
    )
    image_pixels: Annotated[
        int, meta("longest edge of a picture in a result; larger ones are scaled", ge=64, le=8192)
    ] = 1568
    image_bytes: Annotated[int, meta("largest picture in a result; larger ones are scaled", ge=4096, le=1 << 23)] = (
        750_000
    )
    inline_bytes: Annotated[
        int,
        meta("all pictures of one result together; more are linked. LibreChat reads lines of 5 MiB", ge=0, le=1 << 24),
    ] = 3_000_000
    display_bytes: Annotated[int, meta("what one execution may show beside its output", ge=0, le=1 << 26)] = 24 << 20
    recent_bytes: Annotated[
        int, meta("recent output and what was shown, of everybody, kept in memory to be read", ge=0, le=1 << 40)
    ] = 128 << 20
    authorization_server: Annotated[
        str, meta("issuer (URL) of OAuth tokens for this server; empty: none", pattern=r"^$|^https?://[^\s]{1,250}$")
    ] = ""
    oauth_jwks: Annotated[str, meta("file with that issuer's JSON Web Key Set", pattern=FILE_RULE)] = ""
    oauth_audience: Annotated[str, meta("audience of its tokens; empty: public_url and /mcp")] = ""
    oauth_tenant: Annotated[str, meta("tenant of its users", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")] = "default"


class JwtSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[jwt]``: LibreChat's tokens. They are accepted when one of the three places of keys is set."""

    public_key: Annotated[str, meta("file with LibreChat's public key, PEM", pattern=FILE_RULE)] = ""
    kid: Annotated[str, meta("id of that key", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")] = "lc-codeapi-2026-05"
    public_keys_dir: Annotated[str, meta("directory with files KID.pem", pattern=FILE_RULE)] = ""
    jwks: Annotated[str, meta("file with a JSON Web Key Set", pattern=FILE_RULE)] = ""
    issuer: Annotated[str, meta("who mints the tokens", pattern=r"^.{1,256}$")] = "librechat"
    audience: Annotated[str, meta("for whom they are", pattern=r"^.{1,256}$")] = "codeapi"
    lifetime_seconds: Annotated[float, meta("longest time from minting to expiry", gt=0, le=300)] = 300.0
    leeway_seconds: Annotated[float, meta("how far the clocks may differ", ge=0, le=30)] = 30.0
    reuse_seconds: Annotated[
        float, meta("a token may be used again so long after its first use; LibreChat keeps them 30 s", ge=0, le=300)
    ] = 30.0
