"""The report's section on the hardest evaluation rows. It is the one place of a run that holds rows, and says so."""

from collections.abc import Sequence
from math import exp

from .config import TrainConfig
from .hardest import HARDEST, Answers, Judged, highest_losses, surest_mistakes
from .page import section, table

MAX_CHARACTERS = 300  # of a text that is shown


def write_hardest(answers: Answers | None, config: TrainConfig) -> list[str]:
    """Write the section as HTML; none where no rows were evaluated or none shall be shown."""
    if answers is None or not config.show_rows:
        return []
    kind = HARDEST[config.task]
    judged = kind.judge(answers)
    mistakes = surest_mistakes(judged, config.show_rows)
    rest = highest_losses(judged, mistakes, config.show_rows)
    warning = (
        f"<strong>This section holds rows of the evaluation data</strong>; --show-rows 0 leaves them out. "
        f"Nothing else in the run's folder holds any. Of a text above {MAX_CHARACTERS} characters the rest is cut, and … stands for it."
    )
    parts = [
        f'<p class="note">{warning}</p>',
        _part(kind.title, kind.says, kind.severity, [(one, one.severity) for one in mistakes], answers)
        or '<p class="note">There are no mistakes.</p>',
        _part(
            "Highest losses among the rest",
            "The least probable truth first.",
            "Truth’s probability",
            [(one, exp(-one.loss)) for one in rest if one.loss is not None],
            answers,
        ),
    ]
    return [section("Hardest rows", "\n".join(part for part in parts if part))]


def _part(title: str, says: str, figure: str, chosen: Sequence[tuple[Judged, float]], answers: Answers) -> str:
    if not chosen:
        return ""
    pair = ("Second text",) if answers.records[0].text_pair is not None else ()
    head = ("Text", *pair, "True", "Answer", figure, "Line")
    rows = [_row(one, value, answers) for one, value in chosen]
    return f'<h3>{title}</h3><p class="note">{says}</p>{table(head, rows, name=title, kind="rows texts")}'


def _row(one: Judged, value: float, answers: Answers) -> tuple[str, ...]:
    record = answers.records[one.row]
    texts = (record.text,) if record.text_pair is None else (record.text, record.text_pair)
    return (*map(_cut, texts), _cut(one.truth), _cut(one.answer), f"{value:.3f}", str(record.line))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS].rstrip() + "…"
