"""The dashboard and the alert rules name only figures that we tell, and every figure is shown to somebody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from supervisor.activity.records import OUTCOMES
from supervisor.activity.timeline import STEPS
from supervisor.metrics.catalogue import FAMILIES
from tests.deploy.reading import DEPLOY, ROOT
from tests.promtool import needs_promtool, promtool

RULES = DEPLOY / "prometheus" / "gaoler-rules.yml"
DASHBOARD = DEPLOY / "grafana" / "gaoler.json"
_NAME = re.compile(r"\b(?:gaoler|process)_[a-z0-9_]+\b")
_SELECTOR = re.compile(r"\b((?:gaoler|process)_[a-z0-9_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_OF_THE_SCRAPE = {"job", "instance", "le"}
_KNOWN = {
    "outcome": {*OUTCOMES, "done", "failed", "sent", "dropped", "lost"},
    "step": set(STEPS),
    "state": {"ready", "draining"},
    "what": {"cgroup", "process", "upload", "blob"},
}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def shown(value: object) -> Iterator[str]:
    """Every expression of the dashboard."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("expr", "query") and isinstance(each, str):
                yield each
            else:
                yield from shown(each)
    elif isinstance(value, list):
        for each in value:
            yield from shown(each)


def expressions() -> list[str]:
    return [*(rule["expr"] for rule in rules()), *shown(json.loads(DASHBOARD.read_text()))]


def family(name: str) -> str:
    """The family of a sample: histograms have three names."""
    for suffix in ("_bucket", "_sum", "_count"):
        short = name.removesuffix(suffix)
        if short != name and short in FAMILIES and FAMILIES[short].kind == "histogram":
            return short
    return name


def test_every_figure_that_is_named_is_told() -> None:
    for expression in expressions():
        for name in _NAME.findall(expression):
            assert family(name) in FAMILIES, (name, expression)
            assert FAMILIES[family(name)].kind != "histogram" or family(name) != name, (name, expression)


def test_every_label_that_is_asked_for_is_there_and_has_such_values() -> None:
    for expression in expressions():
        for name, inside in _SELECTOR.findall(expression):
            for label, _, value in _MATCHER.findall(inside):
                assert label in {*FAMILIES[family(name)].labels, *_OF_THE_SCRAPE}, (label, expression)
                if label in _KNOWN:
                    assert set(value.split("|")) <= _KNOWN[label], (label, value)


def test_the_dashboard_shows_every_figure() -> None:
    named = {family(name) for each in shown(json.loads(DASHBOARD.read_text())) for name in _NAME.findall(each)}
    assert set(FAMILIES) - named == set()


def test_every_rule_says_what_it_means_and_what_to_do_and_why_its_bound_is_there() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found) > 20
    for rule in found:
        assert set(rule["annotations"]) == {"summary", "meaning", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "warn", "info"), rule["alert"]
    lines = RULES.read_text().splitlines()
    for number, line in enumerate(lines):
        if "- alert:" in line:
            assert any(each.lstrip().startswith("#") for each in (lines[number - 1], lines[number + 1])), line


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]


def test_the_page_of_figures_is_current() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for name, each in FAMILIES.items():
        labels = ", ".join(f"`{label}`" for label in each.labels)
        assert f"| `{name}` | {each.kind} | {labels} | {each.help} |" in text, f"{name}: run python docs/generate.py"


@needs_promtool
def test_prometheus_takes_the_rules_and_the_scraping() -> None:
    for arguments in (
        ("check", "rules", RULES),
        ("check", "config", "--syntax-only", DEPLOY / "prometheus/scrape.yml"),
    ):
        status, said = promtool(*arguments)
        assert status == 0, said


@needs_promtool
def test_the_rules_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    cases = (Path(__file__).parent / "alerts.yml").read_text()
    (tmp_path / "alerts.yml").write_text(cases.replace("RULES", str(RULES)))
    status, said = promtool("test", "rules", tmp_path / "alerts.yml")
    assert status == 0, said


@needs_promtool
def test_prometheus_can_read_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    values = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
    made = []
    for number, expression in enumerate(shown(json.loads(DASHBOARD.read_text()))):
        if not expression.startswith("label_values") and expression != "prometheus":
            for name, value in values.items():
                expression = expression.replace(name, value)  # noqa: PLW2901 - filled in, as Grafana does
            made.append({"record": f"shown:{number}", "expr": expression})
    path = tmp_path / "shown.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": made}]}))
    status, said = promtool("check", "rules", path)
    assert status == 0, said
    assert len(made) > 60
