"""How an update leaves the device: persisted, offered until it is answered, sent as granted, then let go."""

from broker.messages import DeclineReason, Grant, Offer, Receipt
from broker.topics import OFFER
from edge_agent import effects as do
from edge_agent import events as on
from edge_agent.backoff import LONGEST_S
from edge_agent.context import Context, refuse_unless
from edge_agent.duty import key_of
from edge_agent.transitions import IDLE, TRAINING, UPLOADING


def trained(c: Context, event: on.Trained) -> None:
    """The update is pending from here on, whatever becomes of the round."""
    assignment = c.job(event.job, {TRAINING}).assignment
    offer = Offer(
        run=assignment.run,
        round=assignment.round,
        update=event.update,
        examples=event.examples,
        metrics=event.metrics,
        validation=event.validation,
        seconds=event.seconds,
    )
    c.keep(pending=offer, trained=key_of(assignment))
    c.work = None
    c.enter(UPLOADING)
    c.log(f"round {assignment.round}: trained on {event.examples} examples in {event.seconds:.1f} s")
    c.offer_soon()


def offer_when_due(c: Context) -> None:
    """Offer the pending update, with waits that grow until it is answered."""
    if c.offer_at is not None and c.now >= c.offer_at:
        assert c.kept.pending is not None
        c.publish(OFFER, c.kept.pending)
        c.offer_at = c.now + c.offers.delay_s()


def grant(c: Context, event: Grant) -> None:
    """Send the chunks that it names."""
    pending = _answered(c, event)
    refuse_unless(c.offer_at is not None, "a grant while we are not uploading")
    last = pending.update.chunks - 1
    refuse_unless(all(index <= last for index in event.indexes), f"the update's last chunk is {last}")
    c.add(do.SendChunks(pending.update, event.indexes))
    # An offer in the middle of a granted upload would only be answered by the same chunks again.
    c.offer_at = c.now + LONGEST_S


def receipt(c: Context, event: Receipt) -> None:
    """Whatever the answer is, it is final."""
    _answered(c, event)
    why = f" ({event.reason})" if event.reason else ""
    c.log(f"update of round {event.round}: {event.outcome}{why}")
    let_go(c)


def update_lost(c: Context, event: on.UpdateLost) -> None:
    """There is nothing left to offer."""
    pending = c.pending(event.transfer)
    c.say_declined(pending, DeclineReason.DISK, event.detail)
    let_go(c)


def let_go(c: Context) -> None:
    """Have no update pending any more."""
    assert c.kept.pending is not None
    transfer = c.kept.pending.update.transfer
    c.keep(pending=None)
    c.add(do.DeleteUpdate(transfer))
    if c.state is UPLOADING:
        c.enter(IDLE)


def _answered(c: Context, event: Grant | Receipt) -> Offer:
    pending = c.pending(event.transfer)
    ours = (pending.run, pending.round) == (event.run, event.round)
    refuse_unless(ours, f"answers {event.transfer} of round {event.round}, ours is of {pending.round}")
    return pending
