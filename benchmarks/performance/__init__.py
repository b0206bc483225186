"""How fast rollout, scoring and update are, against named peers on the same machine and weights.

    python -m benchmarks.performance                    every group of rows that a CPU can measure
    python -m benchmarks.performance --only rollout     some of them
    python -m benchmarks.performance --device cuda --only w3
    python -m benchmarks.performance --only w5          a real model: make real-model fetches it

Each group of rows runs in a process of its own on one thread and writes
`benchmarks/results/performance_<group>.json` when it is done; the table of `docs/performance.md`
is then drawn anew from all of these files.

    targets     what is to be reached, by the key of a row
    records     rows, and how they are written and read
    timing      paired, interleaved measurements
    worlds      the workloads W1 to W5: model, prompts, rewards
    peers       Transformers, vLLM, TRL, and a bare PyTorch loop
    groups      one module for each group of rows; `registry` lists them
    page        the table
"""
