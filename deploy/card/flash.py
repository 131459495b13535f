"""Write a card: look at what is there, see that it fits, then replace what an earlier flash left."""

from collections.abc import Mapping

from deploy.card import cloud
from deploy.card.contents import (
    CMDLINE,
    META_DATA,
    PAYLOAD,
    USER_DATA,
    VENDOR_DATA,
    Device,
    card_files,
    is_our_vendor_data,
)
from deploy.card.partition import Content, Partition, Progress, size
from deploy.card.wheelhouse import Wheelhouse
from host.errors import ConfigError, NoRoomError

# What any Raspberry Pi starts from.
NEEDED = frozenset({"config.txt", CMDLINE})
MAX_CMDLINE_BYTES = 4096
# A file takes whole clusters, which are 32 KiB at most on FAT32; and folders take room, too.
CLUSTER_BYTES = 32 << 10


def plan(
    partition: Partition, device: Device, wheelhouse: Wheelhouse, system: cloud.System | None
) -> dict[str, Content]:
    """What would be written to a card; raises ConfigError when it is none that a Raspberry Pi starts from."""
    names = partition.names()
    if missing := NEEDED - names:
        raise ConfigError(
            f"this is no boot partition of a Raspberry Pi: there is no {min(missing)}; name the folder where "
            "the card's first partition is mounted, such as /media/you/bootfs, or an image of the whole card"
        )
    if system is None and not {USER_DATA, META_DATA} & names:
        raise ConfigError(
            "this system has no cloud-init, which installs the agent at the first boot: take Raspberry Pi OS "
            "of Debian 13 or newer, or install over SSH by midge install agent"
        )
    if VENDOR_DATA in names and not is_our_vendor_data(partition.read(VENDOR_DATA)):
        raise ConfigError(f"there is a {VENDOR_DATA} that is not midge's: it would be lost; remove it first")
    cmdline = partition.read(CMDLINE)
    if len(cmdline) > MAX_CMDLINE_BYTES:
        raise ConfigError(f"{CMDLINE} is longer than {MAX_CMDLINE_BYTES} bytes: that is no command line")
    try:
        line = cmdline.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{CMDLINE} is no text: this card is damaged; write the system to it anew"
        ) from None
    return card_files(device, wheelhouse, line, system)


def flash(partition: Partition, content: Mapping[str, Content], progress: Progress) -> None:
    """Write it all; raises NoRoomError before the first byte when it does not fit.

    What starts the installation is written last: a card pulled out too early boots as it did before.
    """
    partition.remove(VENDOR_DATA)
    partition.remove(PAYLOAD)
    needed, free = room(content), partition.free_bytes()
    if needed > free:
        raise NoRoomError(
            f"the card's boot partition has {free / 1e6:,.0f} MB left, "
            f"and this takes {needed / 1e6:,.0f} MB: take a larger one"
        )
    for name, part in content.items():
        partition.write(name, part, progress)
    partition.finish()


def room(content: Mapping[str, Content]) -> int:
    """Bytes that files take on the card, at most."""
    return sum(-(-size(part) // CLUSTER_BYTES) * CLUSTER_BYTES for part in content.values())
