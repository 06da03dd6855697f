"""What somebody's own script submits to a model, seen while it runs: hooks, the judgement, and the words for it."""
