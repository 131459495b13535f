"""The verbs that make cards: flash, and wheelhouse for what it installs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from deploy.card.cloud import System, Wifi
from deploy.card.contents import PAYLOAD, WHICH_CARD
from deploy.card.devices import Row, listed, one
from deploy.card.flash import flash as write_card
from deploy.card.flash import plan
from deploy.card.image import ImagePartition, copy_image
from deploy.card.partition import Content, MountedPartition, Partition, size
from deploy.card.wheelhouse import MACHINES, PYTHONS, Target, build_wheelhouse, read_wheelhouse
from host.errors import ConfigError

WHEELS = f"{PAYLOAD}/wheels/"
FULL = "With --full (else Raspberry Pi Imager's own settings are left alone)"
Folder = Annotated[Path | None, typer.Option(metavar="DIR", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Make these verbs part of the command."""
    app.command("flash")(flash)
    app.command("wheelhouse")(wheelhouse)


def flash(  # noqa: PLR0913  each is an option
    *,
    wheelhouse: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Of the card's Python, by midge wheelhouse.", show_default=False),
    ],
    boot: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the card's boot partition is mounted.", show_default=False),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Or an image of Raspberry Pi OS, unpacked.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Write copies of the image there, <id>.img; else the image itself is changed.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="One device's, by midge enroll.", show_default=False),
    ] = None,
    devices: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Or many: columns id and maybe hostname.", show_default=False
        ),
    ] = None,
    bundles: Annotated[
        Path, typer.Option(metavar="DIR", help="With --csv, the folder that has a bundle for each id.")
    ] = Path("devices"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Set up hostname, user, SSH and Wi-Fi as well.")
    ] = False,
    hostname: Annotated[
        str | None, typer.Option(help="Else the device's id.", rich_help_panel=FULL, show_default=False)
    ] = None,
    user: Annotated[str, typer.Option(help="Who may log in, by key only.", rich_help_panel=FULL)] = "pi",
    ssh_key: Annotated[
        Path | None, typer.Option(help="The user's public key.", rich_help_panel=FULL, show_default=False)
    ] = None,
    wifi: Annotated[
        str | None,
        typer.Option(metavar="SSID", help="A network to join.", rich_help_panel=FULL, show_default=False),
    ] = None,
    wifi_password_file: Annotated[
        Path | None, typer.Option(help="Holds its password.", rich_help_panel=FULL, show_default=False)
    ] = None,
    wifi_country: Annotated[
        str | None,
        typer.Option(metavar="CC", help="Two letters, such as DE.", rich_help_panel=FULL, show_default=False),
    ] = None,
) -> None:
    """Put the agent and a device's bundle onto a card that has Raspberry Pi OS.

    At its first boot the device installs the agent without a network, erases the secrets from the card's boot
    partition, and reports to the broker.
    """
    rows = _rows(bundle, devices, bundles, hostname)
    house = read_wheelhouse(wheelhouse)
    radio = _wifi(wifi, wifi_password_file, wifi_country)
    if not full and (radio or ssh_key or hostname):
        raise ConfigError("--hostname, --ssh-key and --wifi go with --full: else Imager's settings hold")
    public = _public_key(ssh_key)
    systems = [System(row.hostname, user, public, radio) if full else None for row in rows]
    _check_target(rows, boot, image, output)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    before: tuple[str, bytes] | None = None
    for row, system in zip(rows, systems, strict=True):
        device = row.device.id
        if boot is not None and before is not None:
            _await_next_card(boot, device, *before)
        content = plan(_there(boot, image), row.device, house, system)
        if dry_run:
            Console(highlight=False).print(_table(row, content))
            continue
        whole = sum(map(size, content.values()))
        copied = _copied(image, output, device, screen) if image and output else None
        target = copied or nullcontext(_there(boot, image))
        with target as partition, _progress(screen, device, whole) as progress:
            write_card(partition, content, progress)
        which = content[WHICH_CARD]
        assert isinstance(which, bytes)
        before = device, which
        screen.print(f"{device}: written. At its first boot it installs midge {house.version}.")


def wheelhouse(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put it.", show_default=False)],
    *,
    python: Annotated[
        list[str] | None,
        typer.Option(
            help=f"The card's: {', '.join(PYTHONS)}; can be repeated; else all.", show_default=False
        ),
    ] = None,
    machine: Annotated[str, typer.Option(help=f"Of {', '.join(MACHINES)}.")] = MACHINES[0],
) -> None:
    """Download what a device needs to install the agent without a network: DIR/cp313-aarch64 and so on."""
    if machine not in MACHINES or not set(python or ()) <= set(PYTHONS):
        raise ConfigError(f"there are wheels for Python {', '.join(PYTHONS)} on {', '.join(MACHINES)}")
    for version in python or PYTHONS:
        target = Target(version, machine)
        made = build_wheelhouse(target, output)
        held = sum(path.stat().st_size for path in made.files)
        typer.echo(
            f"{output / target.tag}: midge {made.version}, {len(made.files)} files, {held / 1e6:.0f} MB"
        )


def _rows(bundle: Path | None, devices: Path | None, bundles: Path, hostname: str | None) -> list[Row]:
    if (bundle is None) == (devices is None):
        raise ConfigError("whose card? give --bundle DIR for one device, or --csv FILE for many")
    if bundle is not None:
        return [one(bundle, hostname)]
    assert devices is not None
    if hostname is not None:
        raise ConfigError("--hostname names one device; with --csv it is a column")
    return listed(devices, bundles)


def _check_target(rows: list[Row], boot: Path | None, image: Path | None, output: Path | None) -> None:
    if (boot is None) == (image is None):
        raise ConfigError("which card? give --boot DIR where it is mounted, or --image FILE")
    if boot is not None and output is not None:
        raise ConfigError("--output is for copies of an --image")
    if image is not None and len(rows) > 1 and output is None:
        raise ConfigError("many devices need an image each: name a folder for them by --output")
    for target in [_copy_of(output, row.device.id) for row in rows] if output is not None else []:
        if target.exists():
            raise ConfigError(f"{target} is there already: name another folder, or remove it first")


def _copy_of(folder: Path, device: str) -> Path:
    return folder / f"{device}.img"


def _there(boot: Path | None, image: Path | None) -> Partition:
    """The one card or image that is there."""
    if boot is not None:
        return MountedPartition(boot)
    assert image is not None
    return ImagePartition(image)


def _await_next_card(boot: Path, device: str, before: str, which: bytes) -> None:
    """Ask for a card until it is another one than that just written."""
    while True:
        typer.confirm(f"Now the card of {device}: is it mounted at {boot}?", default=True, abort=True)
        written = boot / WHICH_CARD
        if not written.is_file() or written.read_bytes() != which:
            return
        typer.echo(f"That is still the card of {before}.", err=True)


@contextmanager
def _copied(image: Path, folder: Path, device: str, screen: Console) -> Iterator[Partition]:
    """A copy of the image, which has its name when all is written, and is removed when that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{device}.img.part"
    partial.unlink(missing_ok=True)
    try:
        with _progress(screen, f"{device}: a copy of the image", image.stat().st_size) as progress:
            copy_image(image, partial, progress)
        yield ImagePartition(partial)
        partial.rename(_copy_of(folder, device))
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _progress(screen: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def _table(row: Row, content: Mapping[str, Content]) -> Table:
    table = Table("file", "bytes", title=f"the card of {row.device.id}", title_justify="left", box=None)
    table.columns[1].justify = "right"
    wheels = [size(part) for name, part in content.items() if name.startswith(WHEELS)]
    table.add_row(f"{WHEELS}: {len(wheels)} files of the wheelhouse", f"{sum(wheels):,}")
    for name, part in content.items():
        if not name.startswith(WHEELS):
            table.add_row(name, f"{size(part):,}")
    table.add_row("in all", f"{sum(map(size, content.values())):,}")
    return table


def _public_key(file: Path | None) -> str | None:
    if file is None:
        return None
    text = _text(file)
    if not text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise ConfigError(f"{file} is no public key of SSH: it ends in .pub and begins with ssh-")
    return text


def _wifi(ssid: str | None, password_file: Path | None, country: str | None) -> Wifi | None:
    if ssid is None and password_file is None and country is None:
        return None
    if ssid is None or password_file is None or country is None:
        raise ConfigError("--wifi, --wifi-password-file and --wifi-country go together")
    return Wifi(ssid, _text(password_file), country.upper())


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
