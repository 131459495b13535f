"""What the lifecycle is told by messages of others."""

from broker import events as broker_events
from broker import topics, wire
from broker.messages import Announcement, Federation, Grant, Invite, Message, Presence, Receipt
from broker.messages import Inbox as InboxMessage
from broker.signing import unseal
from edge_agent import events
from host.errors import SealError

CLEARED = Presence(online=False, connection="0" * 16)


def read_message(
    branch: topics.Branch, message: broker_events.Received, aggregator_key: str | None, *, sealed: bool
) -> list[events.Event]:
    """Make events of a message on one of our topics but the blobs'; raises WireError.

    With `sealed`, an announcement that asks for what is not sealed is refused.
    """
    match branch:
        case topics.PRESENCE if not message.payload:
            # Somebody took our birth off the broker: that is no less wrong than a death.
            return [events.PresenceSeen(CLEARED, message.retained)]
        case topics.PRESENCE:
            return [events.PresenceSeen(wire.decode(Presence, message.payload), message.retained)]
        case topics.FEDERATION:
            return [wire.decode(Federation, message.payload)]
        case topics.ROUND:
            return [_announced(unseal(message.topic, message.payload, aggregator_key), sealed=sealed)]
        case topics.INBOX:
            return [_decode_inbox(message.payload)]
    return []


def _announced(announcement: Announcement, *, sealed: bool) -> Announcement:
    if sealed and announcement.sealing_key is None:
        raise SealError(
            "it asks for updates that are not sealed, and the settings here say sealed = true; set that in "
            "the aggregator's settings too"
        )
    return announcement


def _decode_inbox(payload: bytes) -> Invite | Grant | Receipt:
    # The adapter takes unions as well, which type[M] cannot say.
    message: Message = wire.decode(InboxMessage, payload)  # type: ignore[arg-type]
    assert isinstance(message, Invite | Grant | Receipt)
    return message
