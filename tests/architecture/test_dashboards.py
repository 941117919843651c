"""Alerts, panels and runbook speak of what exists: every metric, every event, every section."""

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.metrics import COUNTED
from app.modules import selected
from app.snapshot import SCHEDULE, backlogs
from core.config import load_settings
from core.metrics import GAUGES, registry

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "dossier.json").read_text("utf-8"))
SCALER = yaml.safe_load(
    (ROOT / "deploy" / "k8s" / "components" / "worker-queue-age" / "scaledobject.yaml").read_text("utf-8")
)
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
QUERIES = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in PANELS.values() for target in panel["targets"]),
    SCALER["spec"]["triggers"][0]["metadata"]["query"],
]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
PROMQL = frozenset(
    {"sum", "max", "rate", "increase", "histogram_quantile", "time", "absent", "or", "unless", "offset", "and"}
)
SAMPLES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
LEVELS = {"info", "warning", "error", "exception", "tell"}  # the last: a level that was chosen before


def exposed() -> dict[str, set[str]]:
    """Every series that /metrics may show, with its labels."""
    # The labels of a metric without children are told by nothing public.
    labels = {metric._name: set(metric._labelnames) for metric in registry._collector_to_names}  # type: ignore[attr-defined]
    counted = {
        family.name + suffix: labels[family.name] | {"service", "le"}
        for family in registry.collect()
        for suffix in SAMPLES[family.type]
    }
    return counted | {name: {"module", "kind", "queue"} for name in GAUGES} | {"up": {"job"}}


def metrics_of(query: str) -> set[str]:
    query = re.sub(r'"[^"]*"', "", query)
    query = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without|ignoring|on) ?\([^)]*\)|offset \w+", "", query)
    return set(re.findall(r"[a-z_][a-z0-9_]*", query)) - PROMQL


def log_calls() -> list[tuple[str, set[str]]]:
    """Each line that the code may log: its event and the names of its fields."""
    calls = [
        call
        for folder in ("app", "core")
        for file in (ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS
    ]
    return [
        (str(call.args[0].value), {keyword.arg or "" for keyword in call.keywords})
        for call in calls
        if call.args and isinstance(call.args[0], ast.Constant) and re.fullmatch(r"\w+", str(call.args[0].value))
    ]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    known = exposed()
    named = metrics_of(query)
    assert named
    assert named <= known.keys()
    matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
    assert matched | grouped <= {label for name in named for label in known[name]}


def test_a_query_names_modules_kinds_and_tasks_that_exist() -> None:
    settings = load_settings("test")
    looked_up = list(backlogs(settings))
    tasks = {task for module in selected(settings).values() for task in module.tasks()} | SCHEDULE.keys()
    known = {
        "kind": {backlog.kind for _, _, backlog in looked_up},
        "module": {module for module, _, _ in looked_up},
        "task": tasks,
    }
    for label, values in known.items():
        asked = {value for query in QUERIES for value in re.findall(rf'{label}=~?"([^"]+)"', query)}
        assert asked, label
        assert {part for value in asked for part in value.split("|")} <= values, label


def test_what_only_workers_count_is_taken_once() -> None:
    for query in QUERIES:
        if 'service="workers"' in query or any(gauge in query for gauge in GAUGES):
            assert "max" in query, query


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    sections = re.findall(r"^### (\w+)$\n\n(\w+)\.", OPERATIONS.split("\n## Alerts\n")[1], re.MULTILINE)
    assert sections == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]
    for section in re.split(r"^### ", OPERATIONS, flags=re.MULTILINE)[1:]:
        assert re.search(r"\*\*Look\*\*", section), section
        assert re.search(r"\*\*[Ff]ix\*\*", section), section


def test_every_metric_is_explained() -> None:
    table = OPERATIONS.split("\n## Metrics\n")[1].split("\n## Logs\n")[0]
    named = {name for name in re.findall(r"`([a-z_]+)`", table) if name.rsplit("_")[-1] in ("total", "seconds")}
    families = list(registry.collect())
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    own_gauges = {family.name for family in families if family.type == "gauge"}
    assert names - own_gauges | {name for name in GAUGES if name.endswith("seconds")} == named
    assert all(f"`{name}`" in table for name in own_gauges | GAUGES.keys())


def test_every_event_of_the_log_is_explained() -> None:
    table = OPERATIONS.split("| event | when |")[1].split("\n## Alerts\n")[0]
    told = {
        word for first in re.findall(r"^\| (.+?) \|", table, re.MULTILINE) for word in re.findall(r"`(\w+)`", first)
    }
    assert told == {event for event, _ in log_calls()}


def test_every_counted_event_is_logged_with_what_is_counted() -> None:
    calls = log_calls()
    for event, count in COUNTED.items():
        fields = {
            name
            for name, parameter in inspect.signature(count).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        }
        lines = [given for name, given in calls if name == event]
        assert lines, event
        assert all(fields <= given for given in lines), event


def test_the_dashboard_has_no_panel_without_a_query_and_none_on_top_of_another() -> None:
    assert all(panel["targets"] for panel in PANELS.values())
    places = [(place["x"], place["y"]) for place in (panel["gridPos"] for panel in DASHBOARD["panels"])]
    assert len(set(places)) == len(places)
    assert DASHBOARD["uid"] == "dossier"
