"""Grafana's dashboard names metrics that the server has, in PromQL that Prometheus parses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.metric_names import COUNTERS_AND_GAUGES, HISTOGRAMS, unknown
from tests.deploy.promtool import promtool

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/lossd.json"


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_it_is_what_its_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make dashboard` has nothing to write."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from dashboard import written

    assert DASHBOARD.read_text(encoding="utf-8") == written()


def test_every_name_is_the_servers(panels: list[dict[str, Any]]) -> None:
    """A metric or a label that is misspelt is an empty plot, and nobody is told."""

    assert {query: found for query in queries(panels) if (found := unknown(query))} == {}


def test_every_metric_is_shown(panels: list[dict[str, Any]]) -> None:
    """Each of lossd's own metrics is in a plot: who adds one adds it here."""
    text = "\n".join(queries(panels))
    ours = [name for name in (*COUNTERS_AND_GAUGES, *HISTOGRAMS) if name.startswith(("lossd_", "grpc_"))]

    assert [name for name in ours if name not in text] == []


def test_panels_do_not_overlap(panels: list[dict[str, Any]]) -> None:
    """Each place of the grid belongs to one panel, and each panel has a number of its own."""
    taken = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_its_source_is_provisioned() -> None:
    """The one source of data is the default one, and the folder of dashboards is where compose mounts them."""
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/lossd.yml").read_text(encoding="utf-8"))["providers"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["grafana"]
    folder = provider["options"]["path"]

    assert source["isDefault"]
    assert source["url"] == "http://prometheus:9090"
    assert f"./deploy/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/{DASHBOARD.name}"


def test_prometheus_parses_every_query(panels: list[dict[str, Any]], tmp_path: Path) -> None:
    """promtool takes each as a rule, with Grafana's variables filled in."""
    rules = [
        {
            "record": f"panel:{index}",
            "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".*"),
        }
        for index, query in enumerate(queries(panels))
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))
