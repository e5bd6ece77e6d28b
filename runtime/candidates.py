"""Who is measured by `tune` to begin with: every engine that is here, with every variant of the bundle that it computes."""

from contextlib import suppress

from .batching import MAX_BATCH_TOKENS
from .engines import ENGINES, choose_variant, why_missing
from .entrant import Entrant
from .errors import EngineUnavailable, Error
from .profile import Choice
from .race import Race

ENOUGH_TEXTS = 200  # of the user's, to let in a variant that did not pass its accuracy gate at export


def usual_choices(race: Race, threads: int) -> list[Choice]:
    """Name every engine that is here with every variant that it computes, as `load` would open them.

    Raises:
        EngineUnavailable: there is none.
    """
    choices, reasons = [], []
    for engine, spec in ENGINES.items():
        if missing := why_missing(engine):
            reasons.append(f"{engine}: {missing}")
            continue
        variants = [name for name, variant in race.manifest.variants.items() if variant.precision in spec.precisions]
        choices += [_usual(engine, variant, threads) for variant in variants]
        if not variants:
            reasons.append(f"{engine}: it computes in {' or '.join(spec.precisions)}, and no variant of the bundle is")
    if not choices:
        raise EngineUnavailable("\n  ".join(["no engine here can run this bundle:", *reasons]))
    for reason in reasons:
        race.say(f"not measured: {reason}")
    return choices


def let_in(race: Race, choice: Choice) -> Entrant:
    """Open a candidate, unless its variant did not pass at export and too few texts can speak for it here."""
    if race.manifest.variants[choice.variant].passed or (race.workload.own and race.num_texts >= ENOUGH_TEXTS):
        return race.enter(choice)
    given = f"{race.num_texts} were compared" if race.workload.own else "none were given"
    race.entrants[choice] = Entrant(
        choice=choice,
        out=f"it did not pass its accuracy gate at export; {ENOUGH_TEXTS} texts of yours (--data) may let it in, {given}",
    )
    return race.entrants[choice]


def find_default(race: Race, threads: int) -> Entrant | None:
    """Find what `load` would use without a profile."""
    for engine in ENGINES:
        with suppress(Error):
            entrant = race.entrants.get(_usual(engine, choose_variant(engine, race.manifest), threads))
            if entrant is not None and entrant.facts is not None:
                return entrant
    return None


def _usual(engine: str, variant: str, threads: int) -> Choice:
    return Choice(
        engine=engine,
        variant=variant,
        threads=threads,
        streams=None,
        spinning=None,
        max_batch_tokens=MAX_BATCH_TOKENS,
    )
