"""Where it runs: the job itself, the worker process and its supervisor."""
