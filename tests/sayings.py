"""What is put into the mouth of a policy that has learnt nothing, so that rewards, gradients and
the curriculum depend on what it sampled.

python -m tests.sayings --config=FILE --workdir=DIR    # launch.train, and so it speaks
"""

import runpy
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spatialevo_jax.rollout.decode import Responses
from spatialevo_jax.train import batches
from spatialevo_jax.train.setup import Setup

# A question that is valid for one task, as often as answers, and of these one that is nearer the
# truth; and what the Solver cannot be asked, since it spells a token that stands for an image.
QUESTION = "<observation>1 bed c42</observation><question>How large is the room?</question>"
SAYINGS = (
    QUESTION,
    QUESTION,
    "<answer>15</answer>",
    "<answer>40</answer>",
    "<question>Is <|image_pad|> a bed?</question>",
)


@contextmanager
def spoken() -> Iterator[None]:
    """Within, tokens that differ are read as other texts."""
    read = batches.texts

    def texts(setup: Setup, responses: Responses) -> list[list[str]]:
        def said(text: str) -> str:
            return SAYINGS[zlib.crc32(text.encode()) % len(SAYINGS)]

        return [[said(text) for text in group] for group in read(setup, responses)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "texts", texts)
        yield


if __name__ == "__main__":
    with spoken():
        runpy.run_module("launch.train", run_name="__main__", alter_sys=True)
