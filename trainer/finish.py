"""After the last step: the best weights, measured once more as they are shipped, become the run's own."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from .average import choose, write_mean
from .calibration import describe
from .calibration_report import write_sections
from .checkpoint import RunRecord, publish
from .doctor.page import render_section
from .evaluate import Shipped, measure_shipped
from .hardest_report import write_hardest
from .pace import overall, share_of_peak
from .report import write_report
from .run import Run
from .slices_report import write_slices
from .states import last_evaluated


def finish(run: Run, *, sections: Sequence[str]) -> RunRecord:
    """Choose a run's weights, calibrate and measure them, write its report, and remove its checkpoints.

    Args:
        run: at its last step.
        sections: of the report, as HTML, beside its own.
    """
    prepared = run.prepared
    if run.main and (share := share_of_peak(overall(run.history.lines()), precision=prepared.place.precision)):
        run.say(f"training took {share}")
    collapsed = run.main and run.collapsed()
    if collapsed:
        run.say(
            "warning: nothing was learnt: the loss ended at that of one answer for all texts. Try another --seed, a lower --learning-rate or more --epochs, "
            "and see with python -m trainer check whether labels fit their texts"
        )
    best, averaged = _choose_weights(run)
    prepared.kept.load_pretrained(best)
    shipped = measure_shipped(
        run.wrapped,
        {name: split for name, split in prepared.splits.items() if name != "train"},
        config=run.config,
        objective=prepared.objective,
        labels=prepared.data.labels,
        accelerator=prepared.place.accelerator,
        scale=prepared.scale,
        groups=prepared.data.slices,
    )
    for sentence in describe(shipped.calibration) if shipped.calibration else ():
        run.say(sentence)
    if not run.main:
        return run.unpublished(complete=True, shipped=shipped, averaged=averaged)
    result = publish(
        run.config.output,
        best,
        run.record(complete=True, shipped=shipped, averaged=averaged, collapsed=collapsed),
        report=lambda record: _write_report(run, record, shipped, sections),
    )
    shutil.rmtree(run.folder)
    return result


def _choose_weights(run: Run) -> tuple[Path, tuple[int, ...] | None]:
    """Give the folder of the best evaluation's weights, or of a better mean's with its steps."""
    count, accelerator = run.config.average, run.prepared.place.accelerator
    best = run.best_weights()
    accelerator.wait_for_everyone()
    lasts = last_evaluated(run.folder, run.progress.step, count=count) if count else []
    if len(lasts) < count:
        run.say(f"warning: --average {count}, but there were only {len(lasts)} evaluations")
    if len(lasts) < 2:
        return best, None
    mean = run.folder / "mean"
    if run.main:
        write_mean(mean, lasts, best)
    accelerator.wait_for_everyone()
    chosen = choose(best, mean, lasts, metric=run.prepared.best_metric, measure=run.measure)
    run.say(chosen.line)
    return chosen.folder, chosen.averaged


def _write_report(run: Run, record: RunRecord, shipped: Shipped, sections: Sequence[str]) -> None:
    data = run.prepared.data
    write_report(
        run.config.output,
        config=run.config,
        record=record,
        history=run.history.lines(),
        measured=shipped.measured,
        tested=shipped.tested,
        labels=data.labels,
        sections=[
            *write_slices(shipped.slices, run.config.slice_column),
            *write_hardest(shipped.answers, run.config),
            render_section(data.findings),
            *write_sections(shipped, labels=data.labels),
            *sections,
        ],
    )
