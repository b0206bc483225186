"""Going on after the loss of a rank of the learner: the run resumes from its last checkpoint."""

from collections.abc import Callable
from functools import partial

from steadyrl.learners.fsdp.hosts import RankEndedError
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpoint import latest_checkpoint


def until_complete(
    begin: Callable[[], RunFolder],
    resume: Callable[..., RunFolder],
    folder: RunFolder,
    resumes: int,
) -> RunFolder:
    """Begins a run, and resumes it when a rank of the learner has ended.

    Args:
        resumes: Maximum number of times without a new checkpoint.

    Raises:
        RankEndedError: ranks end more often.
    """
    attempt, last, count = begin, None, 0
    while True:
        try:
            return attempt()
        except RankEndedError as error:
            checkpoint = latest_checkpoint(folder)
            count = count + 1 if checkpoint == last else 1
            if count > resumes:
                raise
            last = checkpoint
            place = "its beginning" if checkpoint is None else f"checkpoint {checkpoint.name}"
            lost = str(error).partition(". ")[0]
            attempt = partial(resume, reason=f"{lost}. The run resumes from {place}.")
