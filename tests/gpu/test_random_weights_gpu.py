"""Random weights at real size are built on the GPU itself."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gemma():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    from kvbench.config.compose import load_config, sources
    from kvbench.models.devices import resolve
    from kvbench.models.loading import load

    return load(load_config(["model=gemma2b", "model.weights=random"], sources()).model, resolve("cuda"))


def test_gemma_2b_is_there_in_seconds(gemma):
    assert gemma.load_s < 20  # imports of the architecture included; the weights themselves take half a second


def test_every_weight_and_buffer_is_on_the_gpu_in_the_type_asked_for(gemma):
    assert {"cuda"} == {tensor.device.type for tensor in [*gemma.model.parameters(), *gemma.model.buffers()]}
    assert {"torch.bfloat16"} == {str(parameter.dtype) for parameter in gemma.model.parameters()}
    assert (gemma.facts.parameters, gemma.facts.dtype) == (2_506_172_416, "bfloat16")


def test_the_weights_are_random_and_finite(gemma):
    table = gemma.model.get_input_embeddings().weight
    assert table.isfinite().all()
    assert table.float().std().item() == pytest.approx(0.02, rel=0.05)


def test_it_decodes(gemma):
    import torch

    with torch.inference_mode():
        logits = gemma.model(torch.arange(32, device="cuda")[None], logits_to_keep=1).logits
    assert logits.isfinite().all()
