"""What Prometheus reads, from a real server, and what the examples in deploy/prometheus ask of it."""

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aggregator.outlets import exposition
from aggregator.outlets.exposition import CONNECTIONS, Exposition, MetricsServer
from aggregator.outlets.figures import Figures
from aggregator.records import Course, DeviceExcluded, RoundClosed, UpdateAccepted, UpdateRefused
from broker.happenings import EventDocument, EventKind
from broker.messages import BlobRef, ReceiptOutcome, RejectReason
from broker.monitor import (
    DeviceDocument,
    FederationDocument,
    HistoryDocument,
    RoundDocument,
    RoundSummary,
    RunDocument,
)

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "deploy/prometheus"
PATIENCE_S = 20.0
RUN = RunDocument(
    run="r1",
    task="blobs",
    state="training",
    round=2,
    rounds=9,
    started_unix_s=1.0,
    parameters=10,
    seconds_left=5.0,
    metrics={"accuracy": 0.75},
)
ROUND = RoundDocument(
    run="r1", round=2, phase="training", target=3, quorum=2, reported=1, seconds_left=9.0, eta_s=4.0
)
CLOSED = ROUND.model_copy(
    update={"round": 1, "outcome": "completed", "opened_unix_s": 100.0, "seconds": 20.0, "reported": 3}
)
THETA = BlobRef(digest="0" * 64, size=1, chunk_bytes=4096)


def device(name: str = "pi-1", /, **more: object) -> DeviceDocument:
    return DeviceDocument.model_validate({"device": name, "live": True, "state": "training", **more})


def figures() -> Figures:
    """All figures that there are."""
    found = Figures()
    federation = FederationDocument(
        devices=3, live=2, states={"idle": 1, "lost": 1, "training": 1}, run="r1", phase="training"
    )
    summary = RoundSummary(round=1, outcome="completed", reported=3, participants=3, seconds=20.0)
    full: dict[str, object] = {
        "temperature_c": 61.0,
        "battery": 0.5,
        "loss": 0.25,
        "reliability": 1.0,
        "heard_at_unix_s": 2.0,
    }
    for document in (
        federation.model_copy(update={"messages_dropped": 4}),
        RUN,
        ROUND,
        HistoryDocument(run="r1", rounds=(summary,)),
        CLOSED,
        device(**full),
        EventDocument(session=1, number=1, at_unix_s=1.0, kind=EventKind.JOINED, text="pi-1 joined"),
    ):
        found.see(document)
    for record in (
        UpdateAccepted("r1", 1, "pi-1", "0" * 64, 500, 10, {}, {}, 1.0),
        UpdateRefused("r1", 1, "pi-2", ReceiptOutcome.REJECTED, RejectReason.NORM),
        UpdateRefused("r1", 1, "pi-3", ReceiptOutcome.LATE),
        Course("r1", 1, "pi-1", (), 700),
        RoundClosed("r1", 1, "completed", "", THETA),
    ):
        found.note(record)
    return found


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer(Exposition(figures(), "0.1", "lab", 200), "127.0.0.1", 0)
    yield server
    server.close()


def scraped(server: MetricsServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def values(found: Figures, limit: int = 200) -> dict[str, float]:
    """The samples of all families, without a server."""
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in Exposition(found, "0.1", "lab", limit).collect()
        for sample in family.samples
    }


def promtool(*arguments: str, text: str = "", folder: Path = ROOT) -> str:
    """What it prints, once it has found no fault."""
    program = shutil.which("promtool")
    assert program is not None, "make promtool installs it"
    checked = subprocess.run(
        [program, *arguments], input=text, cwd=folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout + checked.stderr


def test_a_scrape_has_the_newest_documents_and_what_was_counted(server: MetricsServer) -> None:
    found = samples(scraped(server))
    expected = {
        "midge_info|lab|0.1": 1,
        "midge_devices": 3,
        "midge_devices_live": 2,
        "midge_run_active": 1,
        "midge_phase|training": 1,
        "midge_phase|paused": 0,
        "midge_devices_in_state|lost": 1,
        "midge_devices_in_state|uploading": 0,
        "midge_run_info|r1|training|blobs": 1,
        "midge_run_round": 2,
        "midge_run_metric|accuracy": 0.75,
        "midge_round_number": 2,
        "midge_round_reported": 1,
        "midge_round_closed_timestamp_seconds": 120,
        "midge_round_duration_seconds": 20,
        "midge_rounds_total|completed": 1,
        "midge_rounds_total|abandoned": 0,
        "midge_updates_total|accepted": 1,
        "midge_updates_total|rejected": 1,
        "midge_updates_total|late": 1,
        "midge_updates_rejected_total|norm-too-large": 1,
        "midge_updates_rejected_total|not-finite": 0,
        "midge_update_bytes_total": 500,
        "midge_blob_bytes_total": 700,
        "midge_messages_dropped_total": 4,
        "midge_events_total|joined": 1,
        "midge_events_total|lost": 0,
        "midge_device_live|pi-1": 1,
        "midge_device_temperature_celsius|pi-1": 61,
        "midge_devices_without_series": 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["process_resident_memory_bytes"] > 0


def test_nothing_is_said_of_what_is_not_known() -> None:
    found = values(Figures())
    assert "midge_devices" not in found
    assert "midge_run_round" not in found
    assert found["midge_rounds_total|completed"] == 0, "so that its first increase is one"


def test_closed_rounds_and_other_runs_do_not_take_the_place_of_the_open_one() -> None:
    found = Figures()
    for document in (CLOSED, RUN, ROUND, CLOSED, CLOSED.model_copy(update={"run": "r0", "round": 9})):
        found.see(document)
    assert values(found)["midge_round_number"] == 2
    found.see(RUN.model_copy(update={"run": "r2"}))
    found.see(ROUND.model_copy(update={"run": "r2", "round": 1}))
    assert values(found)["midge_round_number"] == 1


def test_beyond_the_limit_no_device_has_series_and_a_gauge_says_so() -> None:
    found = figures()
    for i in range(2, 6):
        found.see(device(f"pi-{i}"))
    assert values(found, 5)["midge_device_live|pi-5"] == 1
    beyond = values(found, 4)
    assert not [name for name in beyond if name.startswith("midge_device_")]
    assert beyond["midge_devices_without_series"] == 5


def test_labels_are_bounded_whatever_the_fleet_does() -> None:
    found = figures()
    before = len(values(found))
    for i in range(1000):
        found.note(UpdateRefused(f"r{i}", i + 1, f"pi-{i}", ReceiptOutcome.REJECTED, RejectReason.NORM))
        found.note(RoundClosed(f"r{i}", i + 1, "abandoned", f"reason {i}", THETA))
        found.see(RUN.model_copy(update={"run": f"r{i}"}))
    assert len(values(found)) == before


def test_a_device_that_is_excluded_has_no_series() -> None:
    found = figures()
    found.note(DeviceExcluded("pi-1", "stolen"))
    assert "midge_device_live|pi-1" not in values(found)


def test_promtool_finds_nothing_to_say_of_a_scrape(server: MetricsServer) -> None:
    assert promtool("check", "metrics", text=scraped(server)) == ""


def test_who_keeps_connections_open_is_bounded_and_does_not_keep_others_out_for_ever(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition._Handler, "timeout", 0.5)
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(CONNECTIONS)]
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as more:
        assert more.recv(1) == b"", "closed at once"
    for connection in idle:
        connection.settimeout(PATIENCE_S)
        assert connection.recv(1) == b"", "closed after silence"
        connection.close()
    # A slot is free a moment after its connection was closed.
    while (found := samples_or_none(server)) is None:
        pass
    assert found["midge_devices"] == 3


def samples_or_none(server: MetricsServer) -> dict[str, float] | None:
    try:
        return samples(scraped(server))
    except OSError:
        return None


def test_a_server_that_was_closed_has_left_its_port() -> None:
    collector = Exposition(Figures(), "0.1", "lab", 200)
    first = MetricsServer(collector, "127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        MetricsServer(collector, "127.0.0.1", first.port)
    first.close()
    MetricsServer(collector, "127.0.0.1", first.port).close()


def test_it_listens_on_ipv6() -> None:
    server = MetricsServer(Exposition(Figures(), "0.1", "lab", 200), "::1", 0)
    with urllib.request.urlopen(f"http://[::1]:{server.port}/metrics", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    server.close()


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_rules_and_dashboard_ask_for_what_a_scrape_has(server: MetricsServer, name: str) -> None:
    asked = set(re.findall(r"\bmidge_\w+", (EXAMPLES / name).read_text()))
    has = {
        sample.name for family in text_string_to_metric_families(scraped(server)) for sample in family.samples
    }
    assert asked
    assert asked - has == set()


def test_every_query_of_the_dashboard_is_one() -> None:
    panels = json.loads((EXAMPLES / "dashboard.json").read_text())["panels"]
    queries = [target["expr"].replace("$instance", "a") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"q{i}", "expr": query} for i, query in enumerate(queries)]
    text = json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})
    assert f"{len(rules)} rules found" in promtool("check", "rules", "/dev/stdin", text=text)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_examples_are_as_promtool_wants_them_and_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    tests = (ROOT / "tests/deploy/alerts.test.yml").read_text()
    for file in EXAMPLES.glob("*.yml"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "alerts.test.yml").write_text(tests)
    promtool("check", "config", "prometheus.yml", folder=tmp_path)
    promtool("test", "rules", "alerts.test.yml", folder=tmp_path)
    alerts = re.findall(r"- alert: (\w+)", (EXAMPLES / "alerts.yml").read_text())
    fired = re.findall(r"alertname: (\w+)\n\s+exp_alerts:", tests)
    assert {*alerts} == {*fired}
    quiet = re.findall(r"alertname: (\w+)\n(?!\s+exp_alerts)", tests)
    assert {*alerts} == {*quiet}
