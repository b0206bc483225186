"""Episodes of Experiential RL as the part of the page that tells them from task to outcome."""

import html
from collections.abc import Mapping, Sequence

from steadyrl.base.wording import short_number
from steadyrl.report.episodes import Episode, Fate, Part, Said
from steadyrl.report.html_text import mark, shortened
from steadyrl.report.memory_record import Remembered

ROLES = {"system": "System", "user": "User", "assistant": "Model", "tool": "Tool"}


def episodes_section(by_step: Mapping[int, Sequence[Episode]]) -> str:
    """The HTML of what a reflecting policy went through; nothing without episodes."""
    if not by_step:
        return ""
    listed = [(step, episode) for step, episodes in by_step.items() for episode in episodes]
    improved = [place for place, (_, e) in enumerate(listed) if e.fate is Fate.IMPROVED]
    opened = improved[0] if improved else 0
    told = [_episode(step, e, is_open=n == opened) for n, (step, e) in enumerate(listed)]
    return (
        "<section><h2>Episodes, from the first attempt to what was kept</h2>"
        '<p class="lead">Of the first, a middle and the last step on record, one episode of each '
        "kind: reflecting helped, did not help, broke, or was not needed.</p>"
        f"{''.join(told)}</section>"
    )


def _episode(step: int, episode: Episode, *, is_open: bool) -> str:
    second = "" if episode.second is None else f" → {short_number(episode.second.reward)}"
    rewards = f"reward {short_number(episode.first.reward)}{second}"
    stages = [
        _stage("Task", "", _conversation(episode.first.asked)),
        _attempt("First attempt", episode.first),
        *_reflection(episode),
    ]
    if episode.second is not None:
        stages.append(_attempt("Second attempt", episode.second, asked_with=True))
    stages.append(_stage("What came of it", "", f"<p>{html.escape(_outcome(episode))}</p>"))
    return (
        f'<details class="episode"{" open" if is_open else ""}>'
        f"<summary>Step {step} · {html.escape(episode.fate.value)} · "
        f"{rewards} <span>{html.escape(episode.task_id)}</span></summary>"
        f"{''.join(stages)}</details>"
    )


def _stage(title: str, facts: str, content: str, kind: str = "") -> str:
    return (
        f'<div class="stage {kind}"><div class="what"><h4>{title}</h4>{facts}</div>'
        f"<div>{content}</div></div>"
    )


def _attempt(title: str, part: Part, *, asked_with: bool = False) -> str:
    kind, verdict = mark(part.reward)
    facts = f'<b class="mark">{verdict}</b><p>reward {short_number(part.reward)}</p>'
    guidance = [_folded(said) for said in part.asked if asked_with and said.role == "system"]
    content = "".join(guidance) + _turns(part.went_on)
    if part.truncation_reason:
        content += _note("Cut short", part.truncation_reason)
    if part.feedback:
        content += _note("Feedback", part.feedback)
    return _stage(title, facts, content, kind)


def _reflection(episode: Episode) -> list[str]:
    """What was read of the memory, and the reflection; nothing where nobody reflected."""
    stages = []
    if episode.story.recalled:
        stages.append(_stage("Memory", "", "".join([_recalled(r) for r in episode.recalled])))
    elif episode.reflection is not None:
        stages.append(_stage("Memory", "", "<p>Nothing was recalled.</p>"))
    if episode.reflection is not None:
        stages.append(_stage("Reflection", "", _turns(episode.reflection.went_on)))
    return stages


def _recalled(remembered: Remembered) -> str:
    origin = f"Slot {remembered.slot}, written in step {remembered.step}, {remembered.task_id}"
    return _note(origin, remembered.text)


def _outcome(episode: Episode) -> str:
    story = episode.story
    if story.failure:
        return f"It broke: {story.failure}. Nothing that came of that is learned from."
    if episode.fate is Fate.SOLVED:
        return "The first attempt was not reflected on, and is learned from alone."
    learned = "Not internalised."
    if story.internalized:
        learned = "Internalised: learned under the task alone."
    if story.remembered is None:
        return f"{learned} Not written into the memory."
    return f"{learned} The reflection was written into slot {story.remembered} of the memory."


def _conversation(said: Sequence[Said]) -> str:
    """What was asked; instructions are folded where something else stands beside them."""
    return "".join(
        [
            _folded(s) if s.role == "system" and len(said) > 1 else _turn(s, named=False)
            for s in said
        ]
    )


def _turns(said: Sequence[Said]) -> str:
    turns = "".join([_turn(entry, named=len(said) > 1) for entry in said])
    return f'<div class="turns">{turns}</div>'


def _turn(said: Said, *, named: bool) -> str:
    role = f'<span class="role">{_role(said)}</span>' if named else ""
    kind = "turn model" if said.role == "assistant" else "turn"
    return f'<div class="{kind}">{role}<pre>{shortened(said.content)}</pre></div>'


def _folded(said: Said) -> str:
    return (
        f'<details class="folded"><summary>{_role(said)} message, {len(said.content):,} '
        f"characters</summary><pre>{shortened(said.content)}</pre></details>"
    )


def _note(title: str, text: str) -> str:
    return (
        f'<div class="told"><span class="role">{html.escape(title)}</span>'
        f"<pre>{shortened(text)}</pre></div>"
    )


def _role(said: Said) -> str:
    return html.escape(ROLES.get(said.role, said.role))
