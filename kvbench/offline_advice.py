"""What a person can do who cannot download a model."""

from __future__ import annotations

from kvbench.config.schema import ModelConfig

NO_DOWNLOAD = "use model.weights=random, which needs no download, or model=path with a local folder"
RANDOM_BY_HAND = (
    "use model=path with a local folder, or model.weights=random with model.architecture={model_type: …}, which needs"
    " no download"
)
SHAPE_BY_HAND = (
    "give the shape by model.architecture={model_type: …}, or name a folder with a config.json by model.path"
)


def instead_of_download(spec: ModelConfig) -> str:
    """What a person who cannot download can do about this model: never what they have done already."""
    if spec.weights == "random":
        return SHAPE_BY_HAND
    return NO_DOWNLOAD if spec.architecture else RANDOM_BY_HAND
