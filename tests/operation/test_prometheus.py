"""Prometheus' own eyes on what we give it: its parser on the page, a parser of its language on alerts and dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from tests.relay.test_metrics import Page, ask

pytestmark = pytest.mark.operation

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ADDED = {"instance", "job"}  # by the scrape
GROWS = {"rate", "increase"}


@pytest.fixture(scope="module")
def relay() -> Iterator[Embedded]:
    with running() as relay:
        with Client(relay.url, relay.token("mac-ann"), retries=0) as client:
            client.send_message("general", "hello")
            client.search_messages("hello")
        yield relay


@pytest.fixture(scope="module")
def page(relay: Embedded) -> Page:
    return Page(ask(relay.url).text)


def test_the_page_is_read_by_prometheus_as_by_us(relay: Embedded) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = ask(relay.url).text
    ours = Page(text).families
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {re.sub("_total$", "", name): family.kind for name, family in ours.items()} == {
        name: family.type for name, family in families.items()
    }
    read = [sample for family in families.values() for sample in family.samples]
    samples = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in read}
    assert samples == {key: value for family in ours.values() for key, value in family.samples.items()}
    assert len(samples) == len(read) > 100
    assert {family.documentation for family in families.values()} == {family.help for family in ours.values()}


class Query(NamedTuple):
    where: str
    text: str


def alerts() -> list[Any]:
    import yaml

    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"]
    rules: list[Any] = group["rules"]
    return rules


def queries() -> list[Query]:
    panels = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]
    shown = [Query(panel["title"], each["expr"]) for panel in panels for each in panel.get("targets", ())]
    return [Query(rule["alert"], rule["expr"]) for rule in alerts()] + [
        query._replace(text=query.text.replace("$__rate_interval", "1m").replace("$instance", ".*")) for query in shown
    ]


class Node(NamedTuple):
    """A part of a query, within which others."""

    found: Any
    around: tuple[Any, ...]

    @property
    def kind(self) -> str:
        return type(self.found).__name__


def parts(found: Any, around: tuple[Any, ...] = ()) -> Iterator[Node]:
    yield Node(found, around)
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (inner := getattr(found, name, None)) is not None:
            yield from parts(inner, (*around, found))
    for inner in getattr(found, "args", ()):
        yield from parts(inner, (*around, found))


def test_every_query_asks_for_what_is_there(page: Page) -> None:
    import promql_parser

    found = queries()
    assert len(found) > 40
    for query in found:
        selected = [part for part in parts(promql_parser.parse(query.text)) if part.kind == "VectorSelector"]
        assert selected, query
        for part in selected:
            check_selector(part, page, query)


def check_selector(part: Node, page: Page, query: Query) -> None:
    name = part.found.name
    labels = {matcher.name for matcher in part.found.matchers.matchers}
    if name == "up":
        assert labels <= ADDED, query
        return
    base = re.sub("_(bucket|sum|count)$", "", name)
    family = page.families.get(name) or page.families[base]
    grouped = {
        label
        for outer in part.around
        if type(outer).__name__ == "AggregateExpr" and outer.modifier is not None
        for label in outer.modifier.labels
    }
    known = family.labels() | ADDED | ({"le"} if name.endswith("_bucket") else set())
    assert labels | grouped <= known, query
    called = {outer.func.name for outer in part.around if type(outer).__name__ == "Call"}
    assert bool(called & GROWS) <= (family.kind != "gauge"), query
    assert ("histogram_quantile" in called) is name.endswith("_bucket"), query
    assert "le" in grouped or not name.endswith("_bucket"), query
    if name.startswith("process_"):  # every other process has these, too
        assert "job" in labels, query


def test_alerts_say_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {*rule["annotations"]} == {"summary", "description"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
    names = [rule["alert"] for rule in alerts()]
    assert len({*names}) == len(names)


def test_the_scrape_configuration() -> None:
    import yaml

    found = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job for job in found["scrape_configs"]}
    assert all(re.fullmatch("agentchat.*", name) for name in jobs)  # as the alerts expect
    here, elsewhere = jobs["agentchat"], jobs["agentchat-remote"]
    assert "authorization" not in here
    assert elsewhere["scheme"] == "https"
    assert "credentials_file" in elsewhere["authorization"]
