"""vLLM as a rollout engine, in this process or on a server."""
