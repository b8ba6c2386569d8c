"""The OpenAPI document as a page for people."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Final

_STYLE: Final = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; }
table { border-collapse: collapse; width: 100%; }
td { vertical-align: top; padding: .15rem .8rem .15rem 0; }
"""
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(described: Mapping[str, Any]) -> str:
    """Write the document as a page for people: no script, nothing from elsewhere."""
    sections: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            sections.setdefault(operation["tags"][0], []).append(_section(path, method, operation, described))
    body = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(parts)}" for tag, parts in sections.items())
    info = described["info"]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{info["title"]} API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{info['title']}</h1><p>{html.escape(info['summary'])} Version {html.escape(info['version'])}. "
        "Every route exists with and without <code>/v1</code>. The key goes as <code>X-API-Key</code>, as a Bearer "
        'token, or in the URL. For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"{body}</body></html>"
    )


def _section(path: str, method: str, operation: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{status}</td><td>{html.escape(answer['description'])}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f'<details><summary><span class="method">{method.upper()}</span> <code>{html.escape(path)}</code> '
        f"{html.escape(operation['summary'])}</summary>{_fields(operation, described)}<table>{rows}</table></details>"
    )


def _fields(operation: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    names = [f"<code>{each['name']}</code> ({each['in']})" for each in operation["parameters"]]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if "$ref" in schema:
            schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        required = schema.get("required", [])
        names += [f"<code>{name}</code>{'' if name in required else ' (optional)'}" for name in schema["properties"]]
    return f"<p>{', '.join(names)}</p>" if names else ""
