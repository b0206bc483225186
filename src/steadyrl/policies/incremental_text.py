"""Text of tokens that arrive one after another."""

import re

from transformers import PreTrainedTokenizerBase

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class IncrementalText:
    """Text of the tokens so far, up to a character that later tokens may change.

    Only the last tokens are decoded again. The tokens before them give the context in which a
    tokenizer decides about spaces. Bytes of an incomplete character wait for the others.

    Example:
        text = IncrementalText(tokenizer)
        text.append(17)
        text.settled
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.token_ids: list[int] = []
        self.settled = ""
        """Text that no later token changes."""

        self.ends: list[int] = []
        """Number of characters up to the end of each token, with those that wait."""

        self._tokenizer = tokenizer
        self._context = 0
        """First token that is decoded again."""
        self._read = 0
        """Number of tokens whose text is settled."""
        self._context_length = 0
        """Number of characters of the tokens between these two."""

    def append(self, token_id: int) -> None:
        """Adds a token."""
        self.token_ids.append(token_id)
        added = self._decode(self._context)[self._context_length :]
        self.ends.append(len(self.settled) + len(added))
        if added.endswith(_REPLACEMENT) or self._is_byte(token_id):
            return
        self.settled += added
        self._context, self._read = self._read, len(self.token_ids)
        self._context_length = len(self._decode(self._context))

    def first(self, count: int) -> "IncrementalText":
        """The text of the first `count` tokens."""
        text = IncrementalText(self._tokenizer)
        for token_id in self.token_ids[:count]:
            text.append(token_id)
        return text

    def _decode(self, first: int) -> str:
        return self._tokenizer.decode(
            self.token_ids[first:], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def _is_byte(self, token_id: int) -> bool:
        """Whether the token is a byte of a tokenizer that replaces whole runs of invalid bytes."""
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        return isinstance(token, str) and _BYTE_TOKEN.fullmatch(token) is not None
