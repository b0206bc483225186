"""What the metrics of a run say: signals, diagnosis, remarks, and the meaning of each metric.

Nothing here imports an engine, an environment or the trainer, so other trainers can use it.

    mismatch       where log(pi_theta / mu_old) comes from, source by source
    first_order    how far the gradient of an objective is from that of the expected reward
"""
