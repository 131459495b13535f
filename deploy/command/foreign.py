"""The verbs for a broker that is not ours: acl, doctor, purge."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from broker.acl import acl as mosquitto_acl
from broker.discovery import PREFIX, Discovery
from broker.settings import BrokerSettings
from broker.topics import Role, Topics
from deploy.foreign.doctor import examine
from deploy.foreign.finding import Finding, Verdict
from deploy.foreign.patients import Files, chunk_bytes_of, read_patients
from deploy.foreign.purge import find_retained, purge, unseen
from deploy.foreign.rights import Right, rights
from host.errors import ConfigError, MidgeError
from host.exits import ExitCode
from host.settings import load_settings

SHOWN = 20
# Devices have the patterns, and accounts that enrol a listener of their own.
NAMED = [role for role in Role if role not in {Role.DEVICE, Role.ENROLMENT}]
DEFAULTS = BrokerSettings(url="mqtt://localhost").topics

AggregatorFile = Annotated[
    Path | None, typer.Option("--aggregator", help="aggregator.toml: its account.", show_default=False)
]
DeviceFiles = Annotated[
    list[Path] | None,
    typer.Option("--device", help="agent.toml: a device's account; repeatable.", show_default=False),
]
OperatorFile = Annotated[
    Path | None, typer.Option("--operator", help="operator.toml: its account.", show_default=False)
]
MonitorFile = Annotated[
    Path | None, typer.Option("--monitor", help="A file with a table broker.", show_default=False)
]
RegistrarFile = Annotated[
    Path | None, typer.Option("--registrar", help="registrar.toml: its account.", show_default=False)
]
EnrolmentFile = Annotated[
    Path | None,
    typer.Option("--enrolment", help="agent.toml beside an unused token: its account.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.command()(acl)
    app.command()(doctor)
    app.command("purge")(purge_command)


def acl(
    *,
    prefix: Annotated[str, typer.Option(help="First levels of every topic.")] = DEFAULTS.prefix,
    federation: Annotated[str, typer.Option(help="The federation's name.")] = DEFAULTS.federation,
    mosquitto: Annotated[bool, typer.Option("--mosquitto", help="Write Mosquitto's acl_file.")] = False,
    accounts: Annotated[
        list[str] | None,
        typer.Option(
            "--account",
            metavar="NAME=ROLE",
            help="An account that is no device, for --mosquitto; repeatable. Without any, one a role.",
            show_default=False,
        ),
    ] = None,
    home_assistant: Annotated[
        bool,
        typer.Option(
            "--home-assistant", help="Also those of an aggregator that describes its devices there."
        ),
    ] = False,
    discovery_prefix: Annotated[
        str, typer.Option(help="Home Assistant's, for --home-assistant; its birth topic is status below.")
    ] = PREFIX,
    as_json: AsJson = False,
) -> None:
    """Print the rights that each role needs, on any broker."""
    names = {"url": "mqtt://localhost", "federation": federation, "prefix": prefix}
    topics = load_settings(BrokerSettings, None, names, {}).topics
    discovery = Discovery(topics, discovery_prefix, f"{discovery_prefix}/status") if home_assistant else None
    if mosquitto:
        typer.echo(_mosquitto_acl(topics, _roles(accounts or []), discovery), nl=False)
    elif as_json:
        typer.echo(json.dumps([right._asdict() for right in rights(topics, discovery)], indent=1))
    else:
        Console(width=None if Console().is_terminal else 160).print(
            _rights_table(list(rights(topics, discovery)))
        )


def doctor(
    *,
    aggregator: AggregatorFile = None,
    device: DeviceFiles = None,
    operator: OperatorFile = None,
    monitor: MonitorFile = None,
    registrar: RegistrarFile = None,
    enrolment: EnrolmentFile = None,
    as_json: AsJson = False,
) -> None:
    """Find out whether a broker does what midge needs: rights, retained messages, sizes, queues, expiry.

    Stop the services first: some brokers end their connections for these.
    """
    files = Files(aggregator, tuple(device or ()), operator, monitor, registrar, enrolment)
    findings = []
    with TemporaryDirectory(prefix="midge-") as scratch:
        patients = read_patients(files, Path(scratch))
        for finding in examine(patients, chunk_bytes_of(files), datetime.now(UTC)):
            findings.append(finding)
            if not as_json:
                typer.echo(f"{finding.verdict:<8}{finding.who} {finding.check}: {finding.text}")
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if _faults(findings):
        raise typer.Exit(ExitCode.FAILED)


def purge_command(
    *,
    aggregator: AggregatorFile = None,
    device: DeviceFiles = None,
    operator: OperatorFile = None,
    monitor: MonitorFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Leave nothing of a federation retained on the broker, and look again to prove it.

    Stop the services first. Each account clears what it may: give all that the federation has, or one that
    may do everything below its root.
    """
    # What accounts of tokens write is not retained.
    patients = read_patients(Files(aggregator, tuple(device or ()), operator, monitor), Path())
    topics = patients[0].settings.topics
    found = find_retained(patients)
    typer.echo(f"{len(found)} topics or more are retained below {topics.root}")
    if found and not yes:
        typer.confirm(
            "Clear them? Devices and dashboards will see nothing until midge runs again", abort=True
        )
    outcome = purge(patients)
    typer.echo(f"cleared {len(outcome.cleared)}, {len(outcome.left)} are left")
    if outcome.left:
        raise MidgeError(
            f"still retained: {_listed(sorted(outcome.left))}; stop whoever writes them, and give the "
            "settings of an account that may"
        )
    if blind := unseen(patients, topics):
        typer.echo(f"not for these accounts to read, so not proved to be empty: {_listed(blind)}")


def _mosquitto_acl(topics: Topics, roles: Mapping[str, Role], discovery: Discovery | None) -> str:
    try:
        return mosquitto_acl(topics, roles, discovery)
    except ValueError as error:
        raise ConfigError(f"--account: {error}") from None


def _roles(accounts: Sequence[str]) -> dict[str, Role]:
    if not accounts:
        return {role.value: role for role in NAMED}
    roles = {}
    for account in accounts:
        name, _, role = account.partition("=")
        if role not in NAMED:
            raise ConfigError(f"--account {account}: write NAME=ROLE, with one of {', '.join(NAMED)}")
        roles[name] = Role(role)
    return roles


def _rights_table(found: Sequence[Right]) -> Table:
    table = Table("role", "topic", "read", "write", "QoS", "retained")
    for before, right in zip([None, *found], found, strict=False):
        table.add_row(
            "" if before is not None and before.role is right.role else right.role,
            right.topic,
            "read" if right.reads else "",
            "write" if right.writes else "",
            str(right.qos),
            "yes" if right.retained else "",
        )
    return table


def _faults(findings: Sequence[Finding]) -> bool:
    return any(finding.verdict is Verdict.WRONG for finding in findings)


def _listed(topics: Sequence[str]) -> str:
    more = f" and {len(topics) - SHOWN} more" if len(topics) > SHOWN else ""
    return f"{', '.join(topics[:SHOWN])}{more}"
