"""Makes the model that kvbench brings along: `python -m tools.embedded_model.train`."""
