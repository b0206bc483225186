"""Lines that people published from their runs, shortened to the numbers that matter here."""

VERL = (
    # https://github.com/verl-project/verl/issues/7412
    "(TaskRunner pid=222265) step:34 - global_seqlen/min:419336 - "
    "actor/entropy:0.22266578674316406 - perf/mfu/actor_infer:0.0 - "
    "actor/pg_clipfrac:0.0007935191160472839 - "
    "actor/ppo_kl:-8.163164312320433e-06 - actor/pg_clipfrac_lower:6.1140820869933e-07 - "
    "actor/pg_loss:0.042396901015308686 - actor/kl_loss:0.0013280365410537343 - "
    "actor/grad_norm:0.129638671875 - actor/lr:2e-06 - training/global_step:34 - "
    "critic/score/mean:-0.0182796623557806 - critic/score/max:1.0 - critic/score/min:-1.0 - "
    "critic/rewards/mean:-0.0182796623557806 - response_length/mean:1267.024169921875"
)

VERL_WITH_SCORES = (
    # https://github.com/PRIME-RL/Entropy-Mechanism-of-RL/issues/21
    "step:4 - global_seqlen/mean:208836.375 - actor/pg_loss:0.025936965830624104 - "
    "actor/pg_clipfrac:0.0 - actor/ppo_kl:0.010411410980547467 - "
    "actor/grad_norm:0.4913400746881962 - actor/lr:1e-06 - "
    "val-aux/omni-math/reward/mean@1:0.16129032258064516 - "
    "val-core/omni-math/acc/mean@1:0.16129032258064516 - val-core/math/acc/mean@1:0.706 - "
    "val-core/olympiad_bench/acc/mean@1:0.33037037037037037"
)

SLIME = (
    # https://github.com/THUDM/slime/issues/1837
    "(RolloutManager pid=1805485) [2026-04-15 07:57:53] rollout.py:1193 - perf 0: "
    "{'rollout/response_len/mean': 2773.71484375, 'rollout/zero_std/count_0': 12, "
    "'rollout/zero_std/count_1': 14, 'rollout/repetition_frac': 0.0, "
    "'rollout/truncated_ratio': 0.46484375, 'perf/rollout_time': 371.1796889305115}",
    # https://github.com/NVIDIA-NeMo/ProRL-Agent-Server/issues/40
    "step 1: {'train/loss': 0.10215942561626434, 'train/pg_loss': 0.10215942561626434, "
    "'train/entropy_loss': 0.6176612973213196, 'train/pg_clipfrac': 0.0, 'train/ppo_kl': 0.0, "
    "'train/train_rollout_logprob_abs_diff': 0.030350876972079277, "
    "'train/kl_loss': -7.420481763775744e-12, 'train/ois': 0.875, 'train/tis': 0.8740883469581604, "
    "'train/grad_norm': 2955012562.8240876, 'train/lr-pg_0': 1e-07, 'train/step': 1}",
)

PRIME_ORCHESTRATOR = (
    # https://github.com/PrimeIntellect-ai/prime-rl/pull/1318
    "Generating rollouts (train): 100%|##########| 512/512 [01:13<00:00,  6.97it/s]",
    "02:33:26 SUCCESS Step 28 | Time: 73.77s | Reward: 0.3887 | Throughput: 2408.9 tokens/s | "
    "Seq. Length: 345.6 tokens/sample | Async Level: 1 | Max. Off-Policy Level: 0",
    "02:33:26    INFO Starting orchestrator step 29",
)

PRIME_TRAINER = (
    # In the shape of step_message in src/prime_rl/trainer/rl/train.py at commit 559b4477
    "09:12:01   DEBUG Micro Step 3/8 | Loss 0.0100 | Entropy 0.2100 | Mismatch KL 0.9000",
    "09:12:03 SUCCESS Step 41 |     12s | Loss 0.0021 | Entropy 0.2034 | Mismatch KL 0.0013 | "
    "Grad. Norm 0.1250 | LR 1.00e-06 | Throughput 5120 tokens/s | MFU 31.5% | Peak Mem. 60.2 GiB",
    # and of log_train_batch in src/prime_rl/orchestrator/orchestrator.py
    "09:12:04 SUCCESS Step 41 |  1m 12s | Reward 0.5312 | Trainable 96/128 (75.0%) | Turns 1.0 | "
    "Branches 1.0 | Max Off-Policy 2 | Error 1.6% | Cancelled 0.0% | Truncation 12.5%",
    "\t\t ╰─ gsm8k | Ratio 100.0% | Reward 0.9000 | Turns 1.0 | Truncation 12.5%",
)

NEMO_RL = (
    # In the shape of what nemo_rl/algorithms/grpo.py prints at commit 7ea279ab
    "========================= Epoch 2/3 =========================",
    "",
    "========================= Step 4/10 =========================",
    "\N{BAR CHART} Training Results:",
    "  \N{BULLET} Loss: -0.0123",
    "  \N{BULLET} Generation KL Error: 0.0007",
    "  \N{BULLET} Avg Reward: 0.4375",
    "  \N{BULLET} Mean Generation Length: 512.2500",
    "",
    "\N{STOPWATCH}  Timing:",
    "  \N{BULLET} Total step time: 71.20s",
)

TRL_OF_2025 = (
    # https://github.com/huggingface/open-r1/issues/239
    "{'loss': 0.0, 'grad_norm': 0.9503731084601761, 'learning_rate': 5.521811154058532e-07, "
    "'rewards/accuracy_reward': 0.275, 'reward': 0.896511122584343, "
    "'reward_std': 0.8323002576828002, 'completion_length': 849.65625, "
    "'kl': 8.575916290283203e-05, 'epoch': 0.0}  1%|          | 1/100 [00:10<17:00, 10.3s/it]",
)

TRL_NOTEBOOK = (
    # https://github.com/huggingface/open-r1/issues/704
    "Step | Training Loss | reward | reward_std | completions / mean_length | kl | entropy",
    "-- | -- | -- | -- | -- | -- | --",
    "1 | -0.283600 | 13.437500 | 21.810942 | 1115.437500 | nan | 0",
    "2 | -0.149100 | 6.931818 | 14.526671 | 1202.500000 | nan | No Log",
)
