"""Mosquitto's settings file, for a broker of our own: its limits, and a listener for each kind of client."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Written out, since the defaults changed between Mosquitto's versions.
LIMITS = {
    "max_packet_size": 2_000_000,
    "max_queued_messages": 5000,
    "max_queued_bytes": 64 << 20,
    "max_inflight_messages": 20,
    "max_keepalive": 120,
}


@dataclass(frozen=True)
class Listener:
    """One door of the broker; its files are named in the broker's folder.

    Without `accounts`, clients show a certificate of ours, and its common name is their user name.
    """

    port: int
    acl: str
    accounts: str | None = None
    loopback: bool = False
    tls: bool = True
    # Otherwise any client disconnects any other by its client id, on whatever listener.
    name_is_client_id: bool = True
    max_connections: int = -1


def conf(folder: Path, listeners: Sequence[Listener], *, state: Path, persistence: bool = True) -> str:
    """Write the file for a broker whose files are in `folder` and which saves to `state`; both absolute."""
    common = [
        "per_listener_settings true",
        f"persistence {_word(persistence)}",
        f"persistence_location {state}/",
        "autosave_interval 300",
        # Ours keep no session; who asks for one shall not fill the disk.
        "persistent_client_expiration 1d",
        "log_dest stderr",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice", "information")),
        *(f"{name} {limit}" for name, limit in LIMITS.items()),
        f"memory_limit {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2}",
        # Started by root, it would else become the user `mosquitto`, who may not read files of root's own.
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    blocks = [common, *(list(_lines(listener, folder)) for listener in listeners)]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _lines(listener: Listener, folder: Path) -> Iterator[str]:
    yield f"listener {listener.port}{f' {LOOPBACK}' if listener.loopback else ''}"
    yield "allow_anonymous false"
    yield f"acl_file {folder / listener.acl}"
    if listener.tls:
        yield f"certfile {folder / 'broker.crt'}"
        yield f"keyfile {folder / 'broker.key'}"
        # The oldest allowed.
        yield "tls_version tlsv1.2"
    if listener.accounts is not None:
        yield f"password_file {folder / listener.accounts}"
    else:
        yield f"cafile {folder / 'ca.crt'}"
        yield f"crlfile {folder / 'crl.pem'}"
        yield "require_certificate true"
        yield "use_identity_as_username true"
    if listener.name_is_client_id:
        yield "use_username_as_clientid true"
    if listener.max_connections >= 0:
        yield f"max_connections {listener.max_connections}"


def _word(yes: bool) -> str:  # noqa: FBT001 - what is written
    return "true" if yes else "false"
