"""The report as one page of HTML: no script, no other file, readable without colours."""

from __future__ import annotations

from html import escape
from typing import Final

from supervisor.attack.case import GROUPS
from supervisor.attack.session import Subject
from supervisor.attack.suite import Result, Run, Verdict

_WORDS: Final[dict[Verdict, str]] = {"held": "held", "broken": "broken", "untried": "not tried"}
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #ccc; --held: #0a6b2e; --broken: #b00020;
  --untried: #7a5b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --line: #444; --held: #6fd08c;
  --broken: #ff7a85; --untried: #e6c35c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td.count { font-variant-numeric: tabular-nums; } .held { color: var(--held); } .broken { color: var(--broken);
  font-weight: 700; } .untried { color: var(--untried); }
.bar { display: flex; height: .8rem; border-radius: .4rem; overflow: hidden; margin: 1rem 0 .3rem; }
.bar span { display: block; } .bar .held { background: var(--held); } .bar .broken { background: var(--broken); }
.bar .untried { background: var(--untried); }
dl { margin: 0 0 1rem; } dt { font-weight: 700; } dd { margin: 0 0 .3rem; }
code { overflow-wrap: anywhere; }
"""


def as_page(run: Run, subject: Subject) -> str:
    """Give the page. All that came out of a sandbox is escaped."""
    total = max(1, len(run.results))
    bar = "".join(
        f'<span class="{verdict}" style="width:{100 * run.count(verdict) / total:.2f}%"></span>' for verdict in _WORDS
    )
    counts = ", ".join(f"{run.count(verdict)} {words}" for verdict, words in _WORDS.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Gaoler under attack: {counts}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Gaoler under attack</h1>
<p>{escape(_sentence(subject))}</p>
<div class="bar" role="img" aria-label="{counts}">{bar}</div>
<p><strong>{counts}.</strong> {_judgement(run)}</p>
{_failures(run)}
{_untried(run)}
{_groups(run)}
</body>
</html>
"""


def _sentence(subject: Subject) -> str:
    return (
        f"Gaoler {subject.version} at {subject.address}, policy {subject.policy}, tier {subject.tier}, with "
        f"{', '.join(subject.languages)}; on {subject.kernel}, {subject.machine}, cgroup {subject.cgroups}."
    )


def _judgement(run: Run) -> str:
    if run.count("broken"):
        return "Something got through. Each is told below, with what it means and what to do."
    return "Everything that was tried held. What was not tried proves nothing."


def _failures(run: Run) -> str:
    broken = run.of("broken")
    if not broken:
        return ""
    parts = [
        f"<dt class='broken'>{escape(each.case.id)} {escape(each.case.name)}: {escape(each.case.promise)}</dt>"
        f"<dd>Seen: <code>{escape(each.detail)}</code></dd>"
        f"<dd>Means: {escape(each.case.meaning)}</dd><dd>To do: {escape(each.case.mend)}</dd>"
        for each in broken
    ]
    return f"<h2>Broken</h2><dl>{''.join(parts)}</dl>"


def _untried(run: Run) -> str:
    skipped = run.of("untried")
    if not skipped:
        return ""
    rows = "".join(
        f"<tr><td>{escape(each.case.id)}</td><td>{escape(each.case.name)}</td><td>{escape(each.detail)}</td></tr>"
        for each in skipped
    )
    return f"<h2>Not tried</h2><table><tr><th>claim</th><th>attack</th><th>why</th></tr>{rows}</table>"


def _groups(run: Run) -> str:
    found = []
    for letter, words in GROUPS.items():
        some = [each for each in run.results if each.case.group == letter]
        if some:
            rows = "".join(map(_row, some))
            head = "<tr><th>claim</th><th>attack</th><th>promise</th><th>came of it</th></tr>"
            found.append(f"<h2>{letter}: {escape(words)}</h2><table>{head}{rows}</table>")
    return "\n".join(found)


def _row(result: Result) -> str:
    case = result.case
    cells = "".join(f"<td>{escape(text)}</td>" for text in (case.id, case.name, case.promise))
    return f'<tr>{cells}<td class="{result.verdict}">{_WORDS[result.verdict]}</td></tr>'
