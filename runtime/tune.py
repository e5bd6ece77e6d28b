"""Find how this machine runs a bundle best: engine × variant × threads × streams × spinning × token budget.

    python -m runtime tune bundles/mine --data messages.csv

The grid is far too large to measure, so candidates fall stage by stage:

    check     every engine × variant, settings as `load` has them: whose decisions differ too much from the reference's is out
    compare   those that are left, in turn, round after round: who falls far behind is out
    refine    the best two climb: one setting at a time is doubled, halved or switched, in turn with the incumbent, and kept where it wins by more than noise
    confirm   the winner beside what `load` would do without a profile: where it does not win by more than noise here too, nothing changes
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from statistics import median

from .agreement import JUDGES
from .bundle import Manifest
from .candidates import find_default, let_in, usual_choices
from .entrant import SCORES, Entrant, Options, Runner
from .errors import EngineUnavailable, Error, InputError
from .host import this_host
from .knobs import neighbours
from .profile import Choice, Conditions, Profile
from .profile_fields import FORMAT
from .race import FALLEN_BEHIND, NOISE, Race, TimeUp
from .tasks import Head
from .workload import Workload

EXACT = "fp32"  # the precision of the reference
# Shares of the time; what is left is for opening engines.
CHECK, COMPARE, REFINE, CONFIRM = 0.25, 0.25, 0.3, 0.15
ROUNDS = 5
FINALISTS, CLOSE = 2, 1.25
MATCHES = 8  # that refining should have time for, of four pairs each


def tune(
    bundle: Path,
    manifest: Manifest,
    workload: Workload,
    *,
    head: Head,
    options: Options,
    say: Callable[[str], None],
    open_runner: Callable[[Choice], Runner],
    now: Callable[[], float] = time.monotonic,
) -> Profile:
    """Measure, and say what is best.

    Args:
        bundle: the bundle's folder.
        manifest: its manifest.
        workload: what is measured on.
        head: what turns logits into answers.
        options: what is sought.
        say: where lines for people go.
        open_runner: opens an engine as a choice says; `measure.Worker` in a process of its own.
        now: the clock.

    Returns:
        The profile. Where time is up or Ctrl-C is pressed, of what was measured so far.

    Raises:
        InputError: options that cannot be used, no candidate that may win, or an interruption before all were measured once.
        EngineUnavailable: no engine runs the reference here.
    """
    options.validate()
    host = this_host(bundle)
    race = Race(manifest, workload, head, options=options, open_runner=open_runner, say=say, now=now)
    gain = None
    try:
        reference = _check(race, threads=host.threads)
        default = find_default(race, host.threads)
        _compare(race)
        _refine(race, usable=host.threads)
        gain = _confirm(race, default)
    except KeyboardInterrupt:
        if race.best is None:
            raise InputError("interrupted before every candidate was timed once; nothing is written.") from None
        race.is_cut_short = True
        race.say("interrupted: what was measured so far decides")
    finally:
        race.keep(())
    assert race.best is not None  # `_compare` finds one, or raises
    if race.best.out is not None:
        raise EngineUnavailable(_told_out(race, "the best broke off"))
    return Profile(
        format=FORMAT,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        host=host,
        goal=options.goal,
        winners=_winners(race, race.best),
        default=default.choice if default is not None else None,
        gain=gain,
        conditions=Conditions(
            num_texts=race.num_texts,
            mean_tokens=workload.mean_tokens,
            own_texts=workload.own,
            reference=str(reference.choice),
            floor=options.floor,
            batch_invariant=options.batch_invariant,
            quality=JUDGES[manifest.task].metric if workload.records else None,
            complete=not race.is_cut_short,
        ),
        measurements=tuple(entrant.measurement() for entrant in race.entrants.values()),
    )


def _check(race: Race, *, threads: int) -> Entrant:
    """Enter everyone, and put out who decides otherwise than the reference; give the reference.

    Raises:
        EngineUnavailable: none can be opened.
        InputError: none may win.
    """
    choices = usual_choices(race, threads)
    exact = [choice for choice in choices if race.manifest.variants[choice.variant].precision == EXACT] or choices
    opened = [entrant for entrant in map(race.enter, exact) if entrant.facts is not None]
    reference = _set_reference(race, opened, seconds=CHECK * race.options.seconds / len(choices))
    for choice in sorted(choices, key=lambda choice: choice not in exact):
        entrant = race.entrants.get(choice) or let_in(race, choice)
        if entrant.out is None and entrant is not reference:
            race.check(entrant)
        race.say(race.figures(entrant) + (f": out, {entrant.out}" if entrant.out else ""))
        race.keep(race.running())
    if not race.running():
        way_out = "Lower --floor, leave out --batch-invariant, or export other variants."
        raise InputError(f"{_told_out(race, 'no candidate may win')}\n{way_out}")
    return reference


def _set_reference(race: Race, opened: list[Entrant], *, seconds: float) -> Entrant:
    """Take the most exact of those that can answer; few others are slower, so that each takes some seconds at most.

    Raises:
        EngineUnavailable: none can.
    """
    for reference in sorted(opened, key=_golden_error):
        with suppress(Error):
            race.set_reference(reference, seconds=seconds)
            race.say(f"reference, {_golden_error(reference):.1e} off on the bundle's fixed texts: {reference.choice}")
            return reference
    raise EngineUnavailable(_told_out(race, "no engine here can answer as a reference"))


def _compare(race: Race) -> None:
    """Time all who are left in turn, and drop who falls far behind."""
    left = race.running()
    race.size_passes(COMPARE * race.options.seconds / ROUNDS, left)
    end = race.left - COMPARE * race.options.seconds
    for turn in range(ROUNDS):
        if turn and race.left < end:
            break
        for entrant in left[:: -1 if turn % 2 else 1]:  # so that nobody always follows the same other
            with suppress(Error):  # it broke off and is out
                race.run(entrant)
        left = [entrant for entrant in left if entrant.out is None]
        if not left:
            raise EngineUnavailable(_told_out(race, "every engine broke off"))
        race.best = max(left, key=race.score)
        timed = [entrant for entrant in race.running() if entrant.passes]
        race.compared = {goal: max(timed, key=lambda e: score(e.typical)) for goal, score in SCORES.items()}
        left = [entrant for entrant in left if race.score(entrant) * FALLEN_BEHIND >= race.score(race.best)]
        race.keep(left)
    for entrant in race.entrants.values():
        if entrant.passes:
            race.say(race.figures(entrant) + ("" if entrant in left else ": falls behind"))


def _refine(race: Race, *, usable: int) -> None:
    """Let the best climb, and see which of them comes out ahead."""
    seconds = race.options.seconds
    timed = sorted((e for e in race.running() if e.passes), key=race.score, reverse=True)
    finalists = [e for e in timed if race.score(e) * CLOSE >= race.score(timed[0])][:FINALISTS]
    race.size_passes(REFINE * seconds / (MATCHES * 4), finalists[:1] * 2)
    race.reserved = CONFIRM * seconds
    end = max(race.left - REFINE * seconds, race.reserved)
    try:
        for index, finalist in enumerate(finalists):
            share = (race.left - end) / (len(finalists) - index)
            climbed = _climb(race, finalist, usable=usable, until=race.left - share)
            if race.best is not None and climbed is not race.best and race.beats(climbed, race.best):
                race.best = climbed
    except TimeUp:
        race.is_cut_short = True


def _climb(race: Race, best: Entrant, *, usable: int, until: float) -> Entrant:
    """Go from neighbour to neighbour as long as one wins, or until so much time is left."""
    tried = {best.choice}
    while fresh := [c for c in neighbours(best, goal=race.options.goal, usable=usable) if c not in tried]:
        if race.left < until:
            race.is_cut_short = True
            break
        tried.add(fresh[0])
        challenger = race.enter(fresh[0])
        if challenger.out is None and race.beats(challenger, best):
            race.check(challenger)  # texts share other batches now, so answers may be others
            if challenger.out is None:
                race.best = challenger if race.best is best else race.best
                best = challenger
        if challenger.out is not None:
            race.say(f"{race.figures(challenger)}: out, {challenger.out}")
        race.keep([best])
    return best


def _confirm(race: Race, default: Entrant | None) -> float | None:
    """Time the winner beside the default, which stays unless it is beaten; give how many times the default the winner reaches, None where that is not known."""
    best = race.best
    if default is None or best is None or best is default:
        return None
    race.reserved = 0
    race.size_passes(CONFIRM * race.options.seconds / ROUNDS, [best, default])
    ratios: list[float] = []
    with suppress(TimeUp, Error):
        for ratio in islice(race.ratios(best, default), ROUNDS):
            ratios.append(ratio)
    race.is_cut_short |= len(ratios) < ROUNDS
    gain = median(ratios) if ratios else None
    if default.out is None and (best.out is not None or (gain is not None and gain <= NOISE)):
        beside_it = "broke off" if gain is None else f"was {gain:.2f} times as good"
        race.say(f"the default stays: beside it the best {beside_it}")
        race.best, gain = default, None
    return gain


def _winners(race: Race, best: Entrant) -> dict[str, Choice]:
    """Name the winner for each goal: for the one sought what the search found, for the others the best of the comparison."""
    others = {goal: entrant.choice for goal, entrant in race.compared.items() if entrant.out is None}
    return others | {race.options.goal: best.choice}


def _told_out(race: Race, what: str) -> str:
    return "\n  ".join([f"{what}:", *(f"{e.choice}: {e.out}" for e in race.entrants.values())])


def _golden_error(entrant: Entrant) -> float:
    error = entrant.facts.golden_error if entrant.facts else math.inf
    return error if math.isfinite(error) else math.inf
