"""Stop strings in answers, while they are sampled and afterwards."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from steadyrl.engines.protocol import SampledToken
from steadyrl.policies.incremental_text import IncrementalText


class StopSearch:
    """Searches the tokens of one answer, as they come, for the first stop string.

    A string counts once no later token changes its characters. It may be complete some tokens
    before: bytes of a character wait for a token that is not a byte.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._longest = max(map(len, stops))
        self._text = IncrementalText(tokenizer)
        self._settled = 0
        """Number of tokens whose text is settled and has no stop string."""

    def add(self, position: int, token_id: int) -> bool:
        """Whether the answer has a stop string with this token.

        Args:
            position: Number of tokens before it. Smaller than expected if the engine starts again.
        """
        text = self._text
        if position < len(text.token_ids):
            text = self._text = text.first(position)
            self._settled = 0
        searched = max(0, len(text.settled) - self._longest + 1)
        text.append(token_id)
        if any(text.settled.find(stop, searched) >= 0 for stop in self._stops):
            return True
        if len(text.settled) == text.ends[-1]:
            self._settled = len(text.token_ids)
        return False

    @property
    def completed(self) -> int:
        """Number of tokens up to the one that completes the first stop string; all: none does."""
        ids = self._text.token_ids
        for count in range(self._settled + 1, len(ids)):
            text = self._tokenizer.decode(
                ids[:count], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            if any(stop in text for stop in self._stops):
                return count
        return len(ids)


class StopStrings:
    """Says which tokens complete a stop string, so that an engine need not sample on.

    The finished answer is cut as that of an engine which samples on.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._searches: dict[int, StopSearch] = {}

    def end_with(self, token: SampledToken) -> bool:
        """Whether the answer that `token` is of has a stop string."""
        search = self._searches.get(token.sample)
        if search is None:
            search = self._searches[token.sample] = StopSearch(self._tokenizer, self._stops)
        return search.add(token.position, token.token_id)
