"""The training phase: who is invited, whose update counts, when the round closes."""

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.cohort import MAX_COHORT, needed, replacements, select
from aggregator.coordinator.context import Context, refuse_unless
from aggregator.coordinator.fitness import available
from aggregator.coordinator.phases import Phase, RoundOutcome
from aggregator.coordinator.state import Participant, Round, Run
from aggregator.records import Invited, RoundClosed, RoundOpened, UpdateAccepted, UpdateRefused
from broker.messages import Invite, Offer, ReceiptOutcome, RejectReason

# An update is its vectors and a short header.
UPDATE_OVERHEAD_BYTES = 8192


def open_when_enough_fit(c: Context) -> None:
    """Open the next round as soon as the blobs are on the broker and enough devices live and fit."""
    run = c.active_run()
    fit = available(c.fleet, run, c.now) if c.published else []
    if len(fit) < needed(run.settings):
        return
    selection = select(fit, run.settings, run.last_round + 1)
    run.last_round += 1
    cohort = {name: Participant() for name in selection.cohort}
    run.round = Round(number=run.last_round, target=selection.target, quorum=selection.quorum, cohort=cohort)
    opened = RoundOpened(run.run, run.last_round, selection.cohort, selection.target, selection.quorum)
    c.records.append(opened)
    c.go(run, Phase.TRAINING)
    c.set_deadline(run, run.settings.deadline_s)
    c.announce()


def close_when_done(c: Context) -> None:
    """Close at the first of: target reached; all who live reported, with quorum; deadline."""
    _, current, _ = c.open_round()
    accepted, outstanding = len(current.accepted), len(c.awaited())
    if accepted >= current.target:
        _close(c, "target reached")
    elif outstanding == 0 and accepted >= current.quorum:
        _close(c, "all live participants reported")
    elif c.overdue and accepted >= current.quorum:
        _close(c, "deadline, with quorum")
    elif c.overdue:
        abandon(c, f"deadline with {accepted} of at least {current.quorum} updates")
    else:
        _replace_lost(c, current.target - accepted - outstanding)


def update_offered(c: Context, event: on.UpdateOffered) -> None:
    """Answer at once where the answer is known; otherwise let the update come."""
    part, offer = _part(c, event.device, event.offer), event.offer
    if part is None:
        c.effects.append(do.AnswerFromLedger(event.device, offer))
    elif part.accepted is not None:
        same = part.accepted == offer.update.digest
        c.receipt(event.device, offer, ReceiptOutcome.ACCEPTED if same else ReceiptOutcome.DUPLICATE)
    elif part.rejected is not None:
        c.receipt(event.device, offer, ReceiptOutcome.REJECTED, part.rejected)
    elif offer.update.size > largest_update(c.active_run()):
        _reject(c, event.device, offer, part, RejectReason.TOO_LARGE)
    else:
        c.effects.append(do.Admit(event.device, offer))


def update_received(c: Context, event: on.UpdateReceived) -> None:
    """The update lies in the spool: it counts, if the round still takes it and it is the device's first."""
    part, offer = _part(c, event.device, event.offer), event.offer
    if part is None:
        c.effects.append(do.AnswerFromLedger(event.device, offer))
        return
    _refuse_unless_wanted(part)
    part.accepted, part.examples, part.size = offer.update.digest, offer.examples, offer.update.size
    part.validation, part.rejected, part.declined = offer.validation, None, None
    accepted = UpdateAccepted(
        run=offer.run,
        round=offer.round,
        device=event.device,
        digest=offer.update.digest,
        size=offer.update.size,
        examples=offer.examples,
        metrics=offer.metrics,
        validation=offer.validation,
        seconds=offer.seconds,
    )
    c.records.append(accepted)
    c.receipt(event.device, offer, ReceiptOutcome.ACCEPTED)


def update_rejected(c: Context, event: on.UpdateRejected) -> None:
    """The update came, but cannot be used."""
    part = _part(c, event.device, event.offer)
    if part is None:
        c.effects.append(do.AnswerFromLedger(event.device, event.offer))
        return
    _refuse_unless_wanted(part)
    _reject(c, event.device, event.offer, part, event.reason)


def aggregate(c: Context) -> None:
    """Hand the accepted updates to the strategy, in order of device."""
    run, current, model = c.open_round()
    updates = tuple((name, current.cohort[name].examples) for name in current.accepted)
    c.effects.append(do.Aggregate(run.run, current.number, run.settings.strategy, model.theta, updates))


def aggregation_failed(c: Context, event: on.AggregationFailed) -> None:
    """The model stays as it was."""
    c.run_in(Phase.AGGREGATING, event.run, event.round)
    abandon(c, event.reason)


def abandon(c: Context, reason: str) -> None:
    """Give the round up; several in a row pause the run, for somebody should look."""
    run, current, _ = c.open_round()
    record_abandoned(c, reason)
    c.effects.append(do.DropUploads(run.run, current.number))
    run.round = None
    run.abandoned_in_a_row += 1
    c.go(run, Phase.WAITING, reason)
    c.effects.append(do.WriteHistory(run.run))
    if run.abandoned_in_a_row >= run.settings.abandoned_limit:
        c.stop_clock(run, f"{run.abandoned_in_a_row} rounds abandoned in a row; the last: {reason}")
    else:
        c.announce()


def record_abandoned(c: Context, reason: str) -> None:
    """Note that the round left the model as it was."""
    run, current, model = c.open_round()
    c.records.append(RoundClosed(run.run, current.number, RoundOutcome.ABANDONED, reason, model.theta))


def _close(c: Context, reason: str) -> None:
    run, current, _ = c.open_round()
    c.go(run, Phase.AGGREGATING, reason)
    c.effects.append(do.DropUploads(run.run, current.number))
    c.announce()
    aggregate(c)


def _replace_lost(c: Context, missing: int) -> None:
    run, current, _ = c.open_round()
    count = min(missing, MAX_COHORT - len(current.cohort))
    if count <= 0:
        return
    pool = [name for name in available(c.fleet, run, c.now) if name not in current.cohort]
    for name in replacements(pool, count, run.settings, current.number):
        current.cohort[name] = Participant(invited=True)
        c.records.append(Invited(run.run, current.number, name))
        c.effects.append(do.Send(name, Invite(run=run.run, round=current.number)))


def invite_again(c: Context, device: str) -> None:
    """A device that just connected may have missed its invitation."""
    run = c.run
    if run is None or run.round is None or run.phase is not Phase.TRAINING:
        return
    part = run.round.cohort.get(device)
    asked = part is not None and (part.invited or part.again) and part.outstanding
    if part is not None and asked and c.fleet.alive(device, c.now):
        c.effects.append(do.Send(device, Invite(run=run.run, round=run.round.number, again=part.again)))


def _part(c: Context, device: str, offer: Offer) -> Participant | None:
    """The device's part in the round that its offer names, while that round takes updates."""
    run = c.run
    if run is None or run.round is None or run.phase is not Phase.TRAINING:
        return None
    if (offer.run, offer.round) != (run.run, run.round.number):
        return None
    return run.round.cohort.get(device) or Participant(rejected=RejectReason.NOT_INVITED)


def _refuse_unless_wanted(part: Participant) -> None:
    refuse_unless(part.accepted is None, "an update of this device was accepted before")
    refuse_unless(part.rejected is not RejectReason.NOT_INVITED, "this device is not in the cohort")


def _reject(c: Context, device: str, offer: Offer, part: Participant, reason: RejectReason) -> None:
    part.rejected = reason
    refused = UpdateRefused(offer.run, offer.round, device, ReceiptOutcome.REJECTED, reason)
    c.records.append(refused)
    c.receipt(device, offer, ReceiptOutcome.REJECTED, reason)


def largest_update(run: Run) -> int:
    """Bytes of the largest update that is taken."""
    return UPDATE_OVERHEAD_BYTES + (4 * run.model.parameters if run.model is not None else 0)
