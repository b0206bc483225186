"""A learner whose weights are sharded over processes by PyTorch's FSDP2."""
