"""The training phase: who is invited, whose update counts, when the round closes."""

from aggregator.coordinator import course, experience, late, stragglers
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.cohort import MAX_COHORT, Selection, needed, replacements, select
from aggregator.coordinator.context import Context, refuse_unless
from aggregator.coordinator.fitness import available, eligible
from aggregator.coordinator.phases import Decision, Phase, RoundOutcome
from aggregator.coordinator.state import Participant, Round
from aggregator.records import Invited, RoundClosed, RoundOpened
from broker.messages import Invite, Offer, ReceiptOutcome, RejectReason


def open_when_enough_fit(c: Context) -> None:
    """Open the next round as soon as the blobs are on the broker and enough devices live and fit."""
    run = c.active_run()
    fit = eligible(c.fleet, run, c.now) if c.published else []
    if len(fit) < needed(run.settings):
        return
    selection = select(fit, run.settings, run.last_round + 1, experience.drop_out(run))
    run.last_round += 1
    cohort = {name: course.joined(c, name) for name in selection.cohort}
    run.round = Round(
        number=run.last_round,
        target=selection.target,
        quorum=selection.quorum,
        cohort=cohort,
        deadline_s=experience.deadline_s(run),
    )
    opened = RoundOpened(run.run, run.last_round, selection.cohort, selection.target, selection.quorum)
    c.records.append(opened)
    _note_what_was_learnt(c, selection)
    c.go(run, Phase.TRAINING)
    c.set_deadline(run, run.round.deadline_s)
    c.begin_watching()
    c.announce()


def _note_what_was_learnt(c: Context, selection: Selection) -> None:
    run, current, _ = c.open_round()
    settings = run.settings
    if current.deadline_s != settings.deadline_s:
        reason = f"{current.deadline_s:.0f} s of {settings.deadline_s:.0f}, by the times of earlier updates"
        stragglers.decided(c, Decision.DEADLINE, reason)
    if settings.min_over_selection is not None:
        invited, dropping = len(selection.cohort), experience.drop_out(run)
        reason = f"{invited} devices for {selection.target} updates, {dropping:.0%} drop out"
        stragglers.decided(c, Decision.INVITES, reason)


def close_when_done(c: Context) -> None:
    """Close at the first of: target reached; with quorum, nobody left to wait for; deadline."""
    _, current, _ = c.open_round()
    awaited = c.awaited()
    accepted, outstanding = len(current.accepted), len(awaited)
    expected = len(stragglers.expected(c, awaited))
    if accepted >= current.target:
        _close(c, "target reached")
    elif outstanding == 0 and accepted >= current.quorum:
        _close(c, "all live participants reported")
    elif expected == 0 and accepted >= current.quorum:
        _close(c, "nobody else is due in time")
    elif c.overdue and stragglers.give_grace(c):
        return
    elif c.overdue and accepted >= current.quorum:
        _close(c, "deadline, with quorum")
    elif c.overdue:
        experience.learn(c, quorum_met=False)
        late.close(c)
        late.keep_accepted(c)
        abandon(c, f"deadline with {accepted} of at least {current.quorum} updates")
    else:
        _replace_missing(c, current.target - accepted - expected)


def update_offered(c: Context, event: on.UpdateOffered) -> None:
    """Answer at once where the answer is known; otherwise let the update come."""
    part, offer = _part(c, event.device, event.offer), event.offer
    if late.wants(c, event.device, offer):
        late.offered(c, event.device, offer)
    elif part is None:
        c.effects.append(do.AnswerFromLedger(event.device, offer))
    elif part.accepted is not None:
        same = part.accepted == offer.update.digest
        c.receipt(event.device, offer, ReceiptOutcome.ACCEPTED if same else ReceiptOutcome.DUPLICATE)
    elif part.rejected is not None:
        c.receipt(event.device, offer, ReceiptOutcome.REJECTED, part.rejected)
    elif offer.update.size > stragglers.largest_update(c.open_round()[2]):
        _reject(c, event.device, offer, part, RejectReason.TOO_LARGE)
    else:
        c.effects.append(do.Admit(event.device, offer))
    # Offers are most of what a large round hears, and an answer changes nothing that the phase looks at.
    c.news = bool(c.records)


def update_received(c: Context, event: on.UpdateReceived) -> None:
    """The update lies in the spool: it counts, if the round still takes it and it is the device's first."""
    part, offer = _part(c, event.device, event.offer), event.offer
    if late.wants(c, event.device, offer):
        late.received(c, event.device, offer)
        return
    if part is None:
        c.effects.append(do.AnswerFromLedger(event.device, offer))
        return
    _refuse_unless_wanted(part)
    part.accepted, part.examples, part.size = offer.update.digest, offer.examples, offer.update.size
    part.validation, part.rejected, part.declined = offer.validation, None, None
    part.training, part.seconds = offer.metrics, offer.seconds
    course.reported(c, part)
    c.due.pop(event.device, None)
    c.accept(event.device, offer)


def update_rejected(c: Context, event: on.UpdateRejected) -> None:
    """The update came, but cannot be used."""
    part = _part(c, event.device, event.offer)
    if late.wants(c, event.device, event.offer):
        late.rejected(c, event.device, event.offer, event.reason)
        return
    if part is None:
        c.effects.append(do.AnswerFromLedger(event.device, event.offer))
        return
    _refuse_unless_wanted(part)
    _reject(c, event.device, event.offer, part, event.reason)


def aggregate(c: Context) -> None:
    """Hand the accepted updates to the strategy, in order of device."""
    run, current, model = c.open_round()
    updates = tuple((name, current.cohort[name].examples) for name in current.accepted)
    carried = late.weighed(run, current.carried)
    strategy = run.settings.strategy
    c.effects.append(do.Aggregate(run.run, current.number, strategy, model.theta, updates, carried))


def aggregation_failed(c: Context, event: on.AggregationFailed) -> None:
    """The model stays as it was."""
    run = c.run_in(Phase.AGGREGATING, event.run, event.round)
    assert run.round is not None
    c.drop_carried(run, run.round.carried, "its round could not be aggregated")
    run.round.carried = []
    abandon(c, event.reason)


def abandon(c: Context, reason: str) -> None:
    """Give the round up; several in a row pause the run, for somebody should look.

    What it was to carry into its model goes into the next one.
    """
    run, current, _ = c.open_round()
    record_abandoned(c, reason)
    run.carried, run.round = current.carried + run.carried, None
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
    closed = RoundClosed(run.run, current.number, RoundOutcome.ABANDONED, reason, model.theta)
    course.record_closed(c, closed)


def _close(c: Context, reason: str) -> None:
    run, current, _ = c.open_round()
    experience.learn(c, quorum_met=True)
    current.carried, run.carried = run.carried, []
    late.close(c)
    c.go(run, Phase.AGGREGATING, reason)
    c.announce()
    aggregate(c)


def _replace_missing(c: Context, missing: int) -> None:
    run, current, _ = c.open_round()
    count = min(missing, MAX_COHORT - len(current.cohort))
    typical_s = run.experience.typical_s or 0.0
    if count <= 0 or c.now + typical_s >= stragglers.horizon_of(c):
        return
    known, number = run.experience, current.number
    fit = (name for name in available(c.fleet, run, c.now) if not known.backs_off(name, number))
    pool = [name for name in fit if name not in current.cohort]
    for name in replacements(pool, count, run.settings, current.number):
        current.cohort[name] = course.joined(c, name, invited=True)
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
    c.reject(device, offer, reason)
