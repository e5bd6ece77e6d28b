"""How candidates are measured: entered, checked against a reference, timed in turn, matched two by two. `tune` says which, and when to stop."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count
from statistics import median

import numpy as np

from .agreement import JUDGES, agreement, quality
from .bundle import Manifest
from .entrant import SCORES, Entrant, Options, Pass, Runner
from .errors import EngineUnavailable, Error
from .measure import WAKE_ALONE
from .profile import Choice
from .tasks import Floats, Head
from .workload import NUM_ALONE, Workload

# A challenger wins when the median of five paired ratios is above this. Where pairs scatter by 5 %, one in eight that is no better wins by chance.
NOISE = 1.03
WINS = 3  # of five pairs: the median is decided then, and the rest need not be computed
FALLEN_BEHIND = 1.5  # times slower than the best: more than settings make up for, and than noise explains
LEAST_TEXTS = 32  # in a pass


class TimeUp(Exception):
    """No time is left for another pass."""


class Race:
    """Everyone who entered, the engines that are open, and the time that is left."""

    def __init__(
        self,
        manifest: Manifest,
        workload: Workload,
        head: Head,
        *,
        options: Options,
        open_runner: Callable[[Choice], Runner],
        say: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """Begin; the clock runs from here.

        Args:
            manifest: the bundle's.
            workload: what is measured on.
            head: what turns logits into answers.
            options: what is sought.
            open_runner: opens an engine as a choice says.
            say: where lines for people go.
            now: the clock.
        """
        self.manifest, self.workload, self.options = manifest, workload, options
        self.entrants: dict[Choice, Entrant] = {}
        self.best: Entrant | None = None
        self.compared: dict[
            str, Entrant
        ] = {}  # by goal: the best of those that were timed in turn, with the usual settings
        self.is_cut_short = False  # whether there would have been more to measure
        self.reserved = 0.0  # seconds at the end in which no pair begins
        self.num_texts = len(workload.texts)  # that agreement is counted on
        self._head, self._open, self._say, self._now = head, open_runner, say, now
        self._score = SCORES[options.goal]
        self._num_timed = LEAST_TEXTS
        self._runners: dict[Choice, Runner] = {}  # by choice without its budget, of which an engine knows nothing
        self._expected: list[Floats] = []
        self._end = now() + options.seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._end - self._now()

    def say(self, line: str) -> None:
        """Tell people, with the time that is left."""
        self._say(f"{max(0, self.left):4.0f} s left   {line}")

    def running(self) -> list[Entrant]:
        """List those who are not out."""
        return [entrant for entrant in self.entrants.values() if entrant.out is None]

    def score(self, entrant: Entrant) -> float:
        """How good a candidate is, by its medians."""
        return self._score(entrant.typical)

    def enter(self, choice: Choice) -> Entrant:
        """Open a candidate; where that fails, or its answers are not what is sought, it is out."""
        entrant = self.entrants.setdefault(choice, Entrant(choice=choice))
        try:
            entrant.facts = self._runner(choice).facts
        except Error as exc:
            entrant.out = str(exc)
            return entrant
        if not math.isfinite(entrant.facts.golden_error):
            entrant.out = "its answers to the golden texts are no numbers"
        elif self.options.batch_invariant and not entrant.facts.batch_invariant:
            entrant.out = "its answers depend on the batch, and --batch-invariant was asked for"
        return entrant

    def set_reference(self, reference: Entrant, *, seconds: float) -> None:
        """Let a candidate answer as many texts as it can in some seconds; the others are compared with it on these.

        Raises:
            EngineUnavailable: it cannot answer; it is out.
        """
        self.num_texts = min(LEAST_TEXTS, len(self.workload.texts))
        try:
            self._answer(reference)  # to see how fast it is
            fit = int((reference.rough or 0) * seconds)
            self.num_texts = max(self.num_texts, min(fit, len(self.workload.texts)))
            self._expected = self._answer(reference)
            self._judge(reference, self._expected)
        except Error as exc:
            reference.out = str(exc)
            raise

    def check(self, entrant: Entrant) -> None:
        """Let a candidate answer, and put it out where too few of its decisions are the reference's."""
        try:
            self._judge(entrant, self._answer(entrant))
        except Error as exc:
            entrant.out = str(exc)
            return
        floor = self.options.floor
        if entrant.agreement is not None and entrant.agreement < floor:
            entrant.out = f"agrees on {entrant.agreement:.2%}, and --floor is {floor:.2%}"

    def size_passes(self, seconds: float, entrants: Iterable[Entrant]) -> None:
        """Choose how many texts a pass has, so that one of each entrant takes so many seconds together."""
        per_text = alone = 0.0
        for entrant in entrants:
            rate = entrant.typical.texts_per_s if entrant.passes else entrant.rough or 1.0
            latency_s = entrant.typical.latency_ms / 1000 if entrant.passes else 1 / rate
            per_text += 1 / rate
            alone += latency_s * (NUM_ALONE + WAKE_ALONE)
        self._num_timed = min(max(LEAST_TEXTS, int((seconds - alone) / per_text)), len(self.workload.texts))

    def run(self, entrant: Entrant) -> Pass:
        """Time a pass.

        Raises:
            EngineUnavailable: the engine broke off; it is out.
        """
        budget = entrant.choice.max_batch_tokens
        try:
            runner = self._runner(entrant.choice)
            seconds = runner.seconds(self._num_timed, max_batch_tokens=budget)
            ran = Pass(self._num_timed / seconds, 1000 * runner.seconds_alone(max_batch_tokens=budget))
        except Error as exc:
            entrant.out = str(exc)
            raise
        entrant.passes.append(ran)
        return ran

    def ratios(self, challenger: Entrant, incumbent: Entrant) -> Iterator[float]:
        """Time both in turn, without end; give by how much the challenger was better each time.

        Raises:
            TimeUp: no time is left.
            EngineUnavailable: an engine broke off; it is out.
        """
        for turn in count():
            if self.left <= self.reserved:
                raise TimeUp
            pair = (challenger, incumbent)
            ran = [self._score(self.run(entrant)) for entrant in pair[:: 1 if turn % 2 else -1]]
            yield ran[1 - turn % 2] / ran[turn % 2]

    def beats(self, challenger: Entrant, incumbent: Entrant) -> bool:
        """Whether the median of five paired ratios is above NOISE. One pair is enough for a challenger that falls far behind.

        Raises:
            TimeUp: no time is left.
        """
        ratios: list[float] = []
        try:
            for ratio in self.ratios(challenger, incumbent):
                ratios.append(ratio)
                won = sum(ratio > NOISE for ratio in ratios)
                if WINS in (won, len(ratios) - won) or ratio * FALLEN_BEHIND < 1:
                    break
        except Error:
            return challenger.out is None
        verdict = "kept" if won == WINS else "dropped"
        self.say(f"{self.figures(challenger)}: {verdict}, {median(ratios):.2f} times as good as the best so far")
        return won == WINS

    def keep(self, entrants: Iterable[Entrant]) -> None:
        """Close the engines of all others."""
        kept = {_unbudgeted(entrant.choice) for entrant in entrants}
        for choice in [choice for choice in self._runners if choice not in kept]:
            self._runners.pop(choice).close()

    def figures(self, entrant: Entrant) -> str:
        """Lay out what is known of a candidate."""
        measured = entrant.measurement()
        parts = [
            f"{measured.texts_per_s:8,.0f} texts/s" if measured.texts_per_s else " " * 16,
            f"{measured.latency_ms:7.2f} ms alone" if measured.latency_ms else " " * 16,
            f"agrees {measured.agreement:7.2%}" if measured.agreement is not None else " " * 14,
        ]
        if self.workload.records:
            metric = JUDGES[self.manifest.task].metric
            parts.append(
                f"{metric} {measured.quality:7.4f}" if measured.quality is not None else " " * (len(metric) + 8)
            )
        return "   ".join([*parts, str(entrant.choice)])

    def _runner(self, choice: Choice) -> Runner:
        key = _unbudgeted(choice)
        if key not in self._runners:
            self._runners[key] = self._open(choice)
        return self._runners[key]

    def _answer(self, entrant: Entrant) -> list[Floats]:
        start = self._now()
        logits = self._runner(entrant.choice).logits(self.num_texts, max_batch_tokens=entrant.choice.max_batch_tokens)
        entrant.rough = self.num_texts / max(self._now() - start, 1e-9)
        return logits

    def _judge(self, entrant: Entrant, logits: list[Floats]) -> None:
        if not all(np.isfinite(row).all() for row in logits):
            raise EngineUnavailable("its answers are no numbers (NaN or infinite)")
        entrant.agreement = agreement(self.manifest.task, self._expected, logits, head=self._head)
        if self.workload.records:
            tokens = (self.workload.encoded.tokens or (None,) * len(logits))[: len(logits)]
            records = self.workload.records[: len(logits)]
            entrant.quality = quality(self.manifest.task, logits, tokens=tokens, head=self._head, records=records)


def _unbudgeted(choice: Choice) -> Choice:
    return replace(choice, max_batch_tokens=1)
