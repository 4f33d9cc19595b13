"""The gradient of every parameter against PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl.weights import to_released

from .checkpoints import Pair
from .samples import Clip, forward, our_inputs, sample, their_inputs

torch: Any = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")
pytestmark = pytest.mark.usefixtures("compiled_fast")

TOLERANCE = 1e-3  # of the norm of each released tensor's gradient, layer by layer
# Rounding alone, as a share of the norm of the whole gradient. It is what the gradient of a key
# bias consists of: a softmax does not see what all its scores share.
ROUNDING = 1e-5


def test_every_gradient_is_the_same(small_pair: Pair) -> None:
    pair = small_pair
    one = sample(pair, ((150, 100), Clip(60, 90, frames=4, fps=2.0), (112, 140)), seed=4)
    targets = np.roll(one.conversation.tokens, -1)
    pair.theirs.zero_grad()
    logits = pair.theirs(**their_inputs(one)).logits[0]
    torch.nn.functional.cross_entropy(logits, torch.tensor(targets.astype(np.int64))).backward()
    named = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): weight
        for name, weight in pair.theirs.named_parameters()
    }
    theirs = {name: weight.grad.numpy() for name, weight in named.items()}
    vision, prompts = our_inputs(pair, [one])

    @jax.jit
    @jax.grad
    def gradient(params):
        scores = forward(pair.policy, params, vision, prompts)[0]
        chosen = jnp.take_along_axis(scores, targets[:, None], axis=-1)[:, 0]
        return (jax.nn.logsumexp(scores, axis=-1) - chosen).mean()

    ours = to_released(gradient(pair.params), pair.config)
    assert ours.keys() == theirs.keys()
    whole = np.sqrt(sum(np.square(grad).sum() for grad in theirs.values()))
    errors = {
        name: np.linalg.norm(np.asarray(ours[name]) - grad)
        / (np.linalg.norm(grad) + ROUNDING * whole)
        for name, grad in theirs.items()
    }
    worst = max(errors, key=lambda name: errors[name])
    print(f"worst of {len(errors)} tensors: {worst}, {errors[worst]:.1e} of its norm")
    assert errors[worst] <= TOLERANCE, f"{worst}: {errors[worst]:.1e} of its norm"
