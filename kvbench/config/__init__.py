"""The configuration: its schema, its checks, and Hydra's composition of it."""
