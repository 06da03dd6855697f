"""A sweep's points in several jobs: what a launcher of Hydra's carries to them, and what they do there."""
