"""Third-party errors become one sentence, found through their causes; unknown ones stay."""

from __future__ import annotations

import errno

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from kvbench.config.schema import ModelConfig
from kvbench.errors import Infeasible, ModelUnavailable
from kvbench.model_folder import instead_of_download
from kvbench.models.hub import explained, explanation


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full while downloading org/name"),
        (RuntimeError("Data processing error: No space left on device (os error 28)"), "set HF_HOME to a folder"),
        (PermissionError(errno.EACCES, "Permission denied", "/cache"), "check the folder's permissions"),
        (ImportError("package x is required"), "needs a package that is not installed: package x is required"),
    ],
)
def test_what_the_machine_lacks_is_named(error, sentence):
    assert sentence in explanation(error, "org/name")


def test_the_cause_of_an_error_is_looked_at_too():
    outer = ValueError("could not load")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in explanation(outer, "org/name")


def test_a_known_error_is_raised_as_ours_with_the_original_behind_it():
    original = ImportError("package x is required")
    with pytest.raises(ModelUnavailable) as caught, explained("org/name"):
        raise original
    assert caught.value.__cause__ is original


@pytest.mark.parametrize("error", [KeyError("bug"), RuntimeError("bug"), Infeasible("too large")])
def test_an_unknown_error_and_one_of_ours_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, explained("org/name"):
        raise error
    assert caught.value is error


def test_braces_in_a_message_are_only_text():
    assert "{x}" in explanation(ImportError("needs {x}"), "org/name")


@pytest.mark.parametrize(
    ("settings", "advice", "never"),
    [
        ({"weights": "random"}, "the config.json of org/name, which random weights are made from,", "weights=random"),
        ({"weights": "hub"}, "model.weights=random with model.architecture=", "weights=random, which"),
        ({"weights": "hub", "architecture": {"model_type": "llama"}}, "use model.weights=random, which", "config.json"),
    ],
)
@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), LocalEntryNotFoundError("a file")])
def test_the_advice_without_a_connection_is_never_what_was_done_already(error, settings, advice, never):
    spec = ModelConfig(name="hub", id="org/name", **settings)
    sentence = explanation(error, "org/name", instead=instead_of_download(spec))
    assert advice in sentence
    assert never not in sentence
