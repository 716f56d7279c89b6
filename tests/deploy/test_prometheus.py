"""Prometheus's configuration and alerts: promtool takes them, and each alert fires when it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.metric_names import unknown
from tests.deploy.promtool import promtool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
CASES = Path(__file__).parent / "alerts.yml"


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "lossd.rules.yml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.secure.yml"])
def test_promtool_takes_the_configuration(name: str) -> None:
    """Each, and the rules that it names. Files of credentials are compose's to bring."""

    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(PROMETHEUS / name))
    assert "SUCCESS" in promtool("check", "rules", str(PROMETHEUS / "lossd.rules.yml"))


def test_alerts_fire_when_they_should() -> None:
    """promtool plays series of values to the rules: what each alert says, and when it is silent."""

    assert "SUCCESS" in promtool("test", "rules", str(CASES))


def test_every_alert_has_its_case(rules: list[dict[str, Any]]) -> None:
    """One in which it fires."""
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one.get("exp_alerts")}

    assert {rule["alert"] for rule in rules} == fired


def test_every_name_is_the_servers(rules: list[dict[str, Any]]) -> None:
    """An alert of a metric that nobody has never fires."""

    assert {rule["alert"]: found for rule in rules if (found := unknown(rule["expr"]))} == {}


def test_every_alert_says_what_to_do(rules: list[dict[str, Any]]) -> None:
    """Each has its row in docs/monitoring.md."""
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")

    assert [rule["alert"] for rule in rules if f"| `{rule['alert']}` |" not in page] == []


def test_it_looks_for_the_services_of_the_compose_file() -> None:
    """Between them the two configurations know every service that has metrics, by the port that compose gives it."""
    looked_for = [
        one
        for name in ("prometheus.yml", "prometheus.secure.yml")
        for job in yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["scrape_configs"]
        for one in job["dns_sd_configs"]
    ]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    serving = {
        name: one["environment"]["LOSSD_HTTP"]
        for name, one in services.items()
        if "LOSSD_HTTP" in one.get("environment", {})
    }

    assert sorted(name for one in looked_for for name in one["names"]) == sorted(serving)
    assert set(serving.values()) == {f"0.0.0.0:{one['port']}" for one in looked_for}
