"""What this machine must have for a run, as far as it can be told without torch: asked before anything is loaded.

Nothing is refused here that would have worked: where a look from outside cannot be sure, the worker decides.
"""
