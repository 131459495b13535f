"""What the agent makes of what it hears: of its connection, its own presence, and the aggregator's orders."""

from broker.messages import Announcement, Federation, Invite
from edge_agent import events as on
from edge_agent.context import Context, IllegalEventError, refuse_unless
from edge_agent.offering import let_go
from edge_agent.presence import Verdict
from edge_agent.transitions import DISPLACED, IDLE, TRAINING, UPLOADING


def connected(c: Context, event: on.Connected) -> None:
    """Say who we are, and all that may have got lost with the last connection."""
    c.presence.connected(event.connection)
    c.pulse.start(c.now)
    c.check_in_at = None
    if c.state is DISPLACED:
        c.enter(IDLE if c.kept.pending is None else UPLOADING)
    c.say_birth()
    c.repeat_report()
    c.offer_soon()


def disconnected(c: Context, _event: on.Disconnected) -> None:
    """Say nothing until the session has connected again; work goes on."""
    refuse_unless(c.presence.connection is not None, "not connected")
    c.presence.disconnected()
    c.pulse.stop()
    c.offer_at = c.check_in_at = None


def presence_seen(c: Context, event: on.PresenceSeen) -> None:
    """Keep our birth standing, or keep quiet for a younger machine of our id."""
    refuse_unless(c.online, "our presence is not ours to keep now")
    verdict = c.presence.seen(event.presence, retained=event.retained)
    if verdict is Verdict.OVERWRITTEN:
        c.say_birth()
    elif verdict is Verdict.DISPLACED:
        c.drop_work(DISPLACED)
        c.pulse.stop()
        c.check_in_at = None
        c.log(
            f"another machine (connection {event.presence.connection}) uses the id {c.device}: this one "
            "keeps quiet; give one of them another id",
            warning=True,
        )


def federation(c: Context, event: Federation) -> None:
    """Keep the federation's rhythm; to an aggregator that began anew, say again what it may not know.

    Nobody signs this: it is not kept, and has no say in which announcement is news.
    """
    if event.session < c.kept.session:
        raise IllegalEventError(
            f"the aggregator's session {event.session} is stale, {c.kept.session} was seen: its rounds are "
            "ignored; if it was set up anew, stop this agent and delete state.json in its state_folder",
            warning=True,
        )
    c.pulse.keep_rhythm(event.heartbeat_s, c.now)
    if event.session != c.session:
        c.session = event.session
        c.check_in_soon()


def announcement(c: Context, event: Announcement) -> None:
    """Take new orders for the current ones, and drop what they want no longer.

    What a signed announcement once asked for must not come back by its being said again, not even after a
    restart. Work that came to an end was kept with its place in the order; work that is dropped is kept here.
    """
    news = c.duty.is_news(event, c.kept)
    refuse_unless(news, f"announcement {event.session}/{event.sequence} is stale or known")
    c.duty.heard(event)
    if event.sealing_key != c.kept.sealing:
        _seal_to(c, event.sealing_key)
    if event.session > c.kept.session:
        c.keep()
    if c.report is not None and c.duty.key != (c.report.run, c.report.round):
        c.report = None
    if c.work is not None and not c.duty.still_wants(c.work.assignment, c.state):
        c.log(f"round {c.work.assignment.round} no longer wants our work: dropped")
        c.drop_work(IDLE)
    if c.check_in_at is None:
        c.offer_soon()


def _seal_to(c: Context, key: str | None) -> None:
    """From here on another key is sealed to, or none; what was made for the one before would not open."""
    if c.kept.pending is not None:
        c.log(f"update of round {c.kept.pending.round}: given up, it is sealed to another key", warning=True)
        let_go(c)
        c.keep(trained=None)
    elif c.work is not None and c.state is TRAINING:
        c.drop_work(IDLE)
    c.keep(sealing=key)
    c.log("nothing is sealed any more" if key is None else "sealed to the aggregator's key from now on")
    if c.online:
        c.say_birth()


def invite(c: Context, event: Invite) -> None:
    """Belong to the cohort of the announced round."""
    known = c.duty.key == (event.run, event.round)
    refuse_unless(known, f"invited to round {event.round}, which is not announced")
    c.duty.invited = c.duty.key
    if event.again and c.kept.pending is None and c.kept.trained == c.duty.key:
        c.log(f"round {event.round}: our accepted update was damaged there; training once more", warning=True)
        c.keep(trained=None)
