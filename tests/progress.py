"""A listener that keeps what it hears."""


class Heard:
    """Keeps phases, and of each part what was said of it since its last item was done."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, str, int, int]] = []
        self.counts: list[tuple[str, int, int]] = []
        self.tokens: list[tuple[int, int]] = []

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        self.phases.append((phase, stage, step, steps))

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        self.counts.append((part, done, total))
        if most_tokens:
            self.tokens.append((tokens, most_tokens))

    def of(self, part: str) -> list[tuple[int, int]]:
        """(done, total) of `part`, each as often as it was said."""
        return [(done, total) for name, done, total in self.counts if name == part]
