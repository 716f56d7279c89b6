"""Writes Grafana's dashboard, by `make dashboard`: a table of panels becomes deploy/grafana/dashboards/lossd.json."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).resolve().parent.parent / "deploy/grafana/dashboards/lossd.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
# A row of the grid is 24 wide.
WIDTH, HEIGHT = 8, 8


@dataclass(frozen=True)
class Panel:
    """A plot over time. queries: what a line is called → its PromQL. limit: PromQL of a dashed line."""

    title: str
    unit: str
    queries: dict[str, str]
    limit: str = ""
    about: str = ""


def rate(metric: str, *by: str, where: str = "") -> str:
    """Events a second, of all servers that are shown."""
    return f"sum by ({', '.join(by)}) (rate({metric}{_of_shown(where)}[$__rate_interval]))"


def quantile(share: float, histogram: str, *by: str, where: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', *by, 'le', where=where)})"


def mean(histogram: str) -> str:
    return f"{rate(f'{histogram}_sum', 'instance')} / {rate(f'{histogram}_count', 'instance')}"


def now(gauge: str, *by: str, where: str = "") -> str:
    return f"sum by ({', '.join(by or ('instance',))}) ({gauge}{_of_shown(where)})"


def _of_shown(where: str) -> str:
    return "{" + ", ".join(part for part in ('instance=~"$instance"', where) if part) + "}"


UNARY = 'grpc_type="unary"'
ROWS: dict[str, tuple[Panel, ...]] = {
    "Calls": (
        Panel("Calls, by method", "reqps", {"{{grpc_method}}": rate("grpc_server_started_total", "grpc_method")}),
        Panel("Answers, by code", "reqps", {"{{grpc_code}}": rate("grpc_server_handled_total", "grpc_code")}),
        Panel(
            "Time of a unary call",
            "s",
            {
                f"p{100 * share:g}": quantile(share, "grpc_server_handling_seconds", where=UNARY)
                for share in (0.5, 0.9, 0.99)
            },
            about="In the server, from the call's arrival to its status.",
        ),
        Panel(
            "Messages",
            "reqps",
            {
                "received": rate("grpc_server_msg_received_total", "instance"),
                "sent": rate("grpc_server_msg_sent_total", "instance"),
            },
        ),
        Panel("Turned away, by reason", "reqps", {"{{reason}}": rate("lossd_shed_total", "reason")}),
        Panel(
            "Refused, by reason",
            "reqps",
            {
                "{{reason}}": rate("lossd_refused_total", "reason"),
                "{{reason}} (HTTP port)": rate("lossd_http_refused_total", "reason"),
                "cancelled by the client": rate("lossd_cancelled_total"),
            },
        ),
    ),
    "Computing": (
        Panel(
            "Wait for a batch",
            "s",
            {f"p{100 * share:g}": quantile(share, "lossd_queue_wait_seconds") for share in (0.5, 0.99)},
        ),
        Panel("Time of computing, p99 by loss", "s", {"{{loss}}": quantile(0.99, "lossd_compute_seconds", "loss")}),
        Panel(
            "Transfer to and from the GPU",
            "s",
            {f"p{100 * share:g}": quantile(share, "lossd_transfer_seconds") for share in (0.5, 0.99)},
        ),
        Panel(
            "Evaluations, by loss",
            "ops",
            {"{{loss}} {{result}}": rate("lossd_evaluations_total", "loss", "result")},
        ),
        Panel("Requests of a batch, mean", "short", {"{{instance}}": mean("lossd_batch_requests")}),
        Panel("Rows of a batch, mean", "short", {"{{instance}}": mean("lossd_batch_rows")}),
    ),
    "Limits": (
        Panel(
            "Bytes in flight",
            "bytes",
            {"{{instance}}": now("lossd_inflight_bytes")},
            limit=now("lossd_inflight_bytes_limit"),
        ),
        Panel(
            "Requests in flight",
            "short",
            {"{{instance}}": now("lossd_inflight_requests")},
            limit=now("lossd_inflight_requests_limit"),
        ),
        Panel(
            "Requests that wait for room",
            "short",
            {"{{instance}}": now("lossd_waiting_requests")},
            about="The pod autoscaler of deploy/kubernetes goes by it.",
        ),
        Panel(
            "Utilisation",
            "percentunit",
            {"{{instance}}": 'avg by (instance) (lossd_utilization{instance=~"$instance"})'},
            about="Clients of several servers go by it.",
        ),
        Panel(
            "Connections and streams",
            "short",
            {"connections {{instance}}": now("lossd_connections"), "streams {{instance}}": now("lossd_streams")},
        ),
        Panel("Calls, by identity", "reqps", {"{{identity}}": rate("lossd_identity_requests_total", "identity")}),
        Panel(
            "Bytes in flight, by identity", "bytes", {"{{identity}}": now("lossd_identity_inflight_bytes", "identity")}
        ),
    ),
    "Processes": (
        Panel("Processor", "short", {"{{instance}}": rate("process_cpu_seconds_total", "instance")}),
        Panel(
            "Memory",
            "bytes",
            {
                "resident {{instance}}": now("process_resident_memory_bytes"),
                "shared with clients {{instance}}": now("lossd_shared_memory_bytes"),
            },
        ),
        Panel(
            "Memory of the GPU",
            "bytes",
            {"{{instance}}": now("lossd_device_memory_bytes", where='kind="used"')},
            limit=now("lossd_device_memory_bytes", where='kind="total"'),
        ),
        Panel("Descriptors", "short", {"{{instance}}": now("process_open_fds")}, limit=now("process_max_fds")),
        Panel(
            "Worker processes",
            "short",
            {
                "{{instance}}": now("lossd_workers"),
                "restarts in an hour": f"sum (increase(lossd_worker_restarts_total{_of_shown('')}[1h]))",
            },
        ),
        Panel(
            "Time until a certificate ends",
            "s",
            {
                "{{file}} {{instance}}": "min by (instance, file) "
                f"(lossd_certificate_expiry_timestamp_seconds{_of_shown('')}) - time()"
            },
            about="Of the first that ends in a file. Below nothing it has: new connections fail.",
        ),
        Panel(
            "Servers by version",
            "short",
            {"{{version}} {{device}} {{backend}}": now("lossd_build_info", "version", "device", "backend")},
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """What Grafana reads."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": []} | _placed(len(panels), 0, y, 24, 1)
        )
        for index, panel in enumerate(row):
            down, across = divmod(index, 24 // WIDTH)
            place = _placed(len(panels), across * WIDTH, y + 1 + down * HEIGHT, WIDTH, HEIGHT)
            panels.append(_drawn(panel) | place)
        y += 1 + -(-len(row) * WIDTH // 24) * HEIGHT
    return {
        "uid": "lossd",
        "title": "lossd",
        "tags": ["lossd"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_source_choice(), _instance_choice()]},
        "panels": panels,
    }


def _placed(number: int, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _drawn(panel: Panel) -> dict[str, Any]:
    queries = panel.queries | ({"limit {{instance}}": panel.limit} if panel.limit else {})
    dashed = {
        "matcher": {"id": "byRegexp", "options": "/^limit/"},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(queries.items())
        ],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}},
            "overrides": [dashed] if panel.limit else [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}},
    }


def _source_choice() -> dict[str, Any]:
    return {"name": "source", "label": "source", "type": "datasource", "query": "prometheus", "current": {}}


def _instance_choice() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "server",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(lossd_build_info, instance)", "refId": "instances"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def written() -> str:
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if DASHBOARD.read_text(encoding="utf-8") == written() else f"{DASHBOARD}: run `make dashboard`")
    DASHBOARD.write_text(written(), encoding="utf-8")
