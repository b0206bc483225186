"""vLLM in its own environment, asked over standard input and answering on standard output.

    python vllm_worker.py CHECKPOINT DTYPE MAX_SEQUENCES

One line of JSON a request, `{"prompts": [[ids]], "copies": 16, "max_new_tokens": 512,
"end_token_id": 1}`, one line an answer: lengths of the answers, wall and processor seconds of the
call. This file imports nothing of the project, whose packages this environment does not have.
"""

import json
import os
import sys
import time

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


def main() -> None:
    """Loads the checkpoint, says so, and answers until its input ends."""
    os.environ.update(SETTINGS)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever vLLM prints goes to the errors
    checkpoint, dtype, sequences = sys.argv[1:]

    import torch
    from vllm import LLM, SamplingParams, TokensPrompt

    torch.set_num_threads(1)
    engine = LLM(
        model=checkpoint,
        dtype=dtype,
        max_num_seqs=int(sequences),
        max_num_batched_tokens=max(8192, int(sequences)),
        skip_tokenizer_init=True,
        enforce_eager=True,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        seed=0,
    )
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        sampling = SamplingParams(
            n=asked["copies"],
            temperature=1.0,
            max_tokens=asked["max_new_tokens"],
            stop_token_ids=[asked["end_token_id"]],
            logprobs=0,  # of the sampled token alone
            detokenize=False,
        )
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in asked["prompts"]]
        wall, processor = time.perf_counter(), time.process_time()
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - wall, time.process_time() - processor
        lengths = [len(c.token_ids) for output in outputs for c in output.outputs]
        answer = {"seconds": seconds[0], "processor_seconds": seconds[1], "lengths": lengths}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
