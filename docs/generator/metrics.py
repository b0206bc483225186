"""The page of the metrics."""

from collections.abc import Iterator

from docs.generator.markdown import page, paragraph

from steadyrl.analysis import GROUPS, METRIC_TEXTS, MetricText

ABOUT = """
Every number that a run writes to `metrics.jsonl`, under the names of [notation](notation.md):
`mu_old` is the rollout engine's policy, `pi_old` the trainer's under the same weights, `pi_theta`
the one being trained. For rollouts that are sampled ahead (`engine.max_staleness`), `pi_old` has
newer weights than `mu_old`, so metrics of the two include that staleness. A mean over tokens is
over the `N` loss tokens of a step. "MiniRL" is arXiv:2512.01374, "R3" is arXiv:2510.11370.
"""


def metrics_page() -> str:
    """Every metric: what it means, its definition, its unit, and what moves it."""
    return page(["# Metrics", "", paragraph(ABOUT), *_groups()])


def _groups() -> Iterator[str]:
    for group in GROUPS.values():
        texts = {name: text for name, text in METRIC_TEXTS.items() if text.group == group}
        if texts:
            yield f"\n## {group.heading}"
        if texts and group.about:
            yield "\n" + paragraph(group.about)
        for name, text in texts.items():
            yield from _metric(name, text)


def _metric(name: str, text: MetricText) -> Iterator[str]:
    yield f"\n### `{name}`: {text.title}\n"
    yield paragraph(text.meaning) + "\n"
    yield paragraph(f"- Definition: {text.definition}", indent="  ")
    yield paragraph(f"- Unit: {text.unit}", indent="  ")
    yield paragraph(f"- Moves with: {text.moves_with}", indent="  ")
