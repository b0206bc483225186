"""Notes about signals that leave their normal ranges during a run."""

from steadyrl.analysis import SIGNALS, RunSettings, departures_now, stages_of, text_for
from steadyrl.analysis.safety import first_step_note
from steadyrl.analysis.series import COLD_START
from steadyrl.training.journal import Journal
from steadyrl.training.stage import Stage

READ = ("stage", "step", *(signal.metric for signal in SIGNALS))


def note_signals(stage: Stage, step: int, journal: Journal) -> None:
    """Notes once per reinforcement stage that a signal is outside its normal range, and after its
    first step what is not safe.

    The limits are those of `steadyrl diagnose`, which also finds the cause.
    """
    rows = [{name: row[name] for name in READ if name in row} for row in journal.history(stage)]
    if stage.name == COLD_START or not rows:
        return
    (course,) = stages_of(rows)
    if step == 1 and (note := first_step_note(journal.history(stage)[-1])):
        journal.note(stage, step, note)
    updates = journal.history(stage)[-1].get("gradient_steps", 1)
    for departure in departures_now(course, RunSettings(mini_batches=max(1, updates))):
        remedy = "`steadyrl diagnose` says why, and what to change."
        title = text_for(departure.metric).title
        journal.note_once(stage, step, f"{departure.finding} {remedy}", f"{title} reached")
