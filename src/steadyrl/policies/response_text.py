"""Text of completions."""

from transformers import PreTrainedTokenizerBase

from steadyrl.records.completion import Completion, FinishReason


def response_text(completion: Completion, tokenizer: PreTrainedTokenizerBase) -> str:
    """Exact text of the completion without its end token. Other special tokens are kept."""
    ids = completion.token_ids
    if completion.finish_reason is FinishReason.STOP:
        ids = ids[:-1]
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
