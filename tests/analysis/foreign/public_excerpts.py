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
