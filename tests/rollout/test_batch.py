"""From texts to padded arrays: what is padded, where things stand, which token is learnt."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl.config import TINY
from spatialevo_jax.models.qwen2_5_vl.images import Visual
from spatialevo_jax.models.qwen2_5_vl.rope import mrope_positions
from spatialevo_jax.rollout.batch import (
    ChatEncoder,
    Conversation,
    Dialogue,
    PromptError,
    Starts,
    bucket,
    dialogue,
    dialogue_length,
    map_rows,
    pad_dialogues,
    pad_prompts,
    prompts_for_decoding,
    response_suffixes,
)

PAD = 9  # stands for a visual token in conversations made by hand

IMAGE = Visual((1, 4, 4))  # of 56 pixels: 2 x 2 tokens


def talk(*tokens: int) -> Conversation:
    """A conversation whose rotary positions are ten times the token's place."""
    ids = np.array(tokens, np.int32)
    positions = np.broadcast_to(10 * np.arange(len(ids), dtype=np.int32), (3, len(ids)))
    return Conversation(ids, positions, ids == PAD)


def said(*tokens: int, learnt: int, first: int = 0) -> Dialogue:
    positions = np.broadcast_to(first + np.arange(len(tokens), dtype=np.int32), (3, len(tokens)))
    return Dialogue(np.array(tokens, np.int32), positions, learnt)


# --- conversations ---------------------------------------------------------------------------


def test_a_conversation_announces_its_images_and_spreads_their_tokens(
    encoder: ChatEncoder,
) -> None:
    found = encoder.turn("Where is the lamp?", [IMAGE] * 2)
    shown = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    assert encoder.tokenizer.decode(found.tokens) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\nImage 1: {shown}Image 2: {shown}Where is the lamp?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    np.testing.assert_array_equal(found.visual, found.tokens == encoder.ids.image_pad)
    assert found.visual.sum() == 8


def test_positions_of_a_conversation_by_hand(encoder: ChatEncoder) -> None:
    """An image of 2 x 2 tokens advances the text after it by 2, not by 4."""
    found = encoder.turn("left", [IMAGE])
    first = int(np.argmax(found.visual))
    at = np.arange(len(found.tokens))
    np.testing.assert_array_equal(found.positions[:, :first], [at[:first]] * 3)
    square = first + np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]])
    np.testing.assert_array_equal(found.positions[:, first : first + 4], square)
    np.testing.assert_array_equal(found.positions[:, first + 4 :], [at[first + 4 :] - 2] * 3)


def test_a_conversation_without_images_is_text(encoder: ChatEncoder) -> None:
    found = encoder.turn("left", [])
    assert not found.visual.any()
    np.testing.assert_array_equal(found.positions, [np.arange(len(found.tokens))] * 3)


def test_images_and_videos_of_any_sizes_are_numbered_by_kind(encoder: ChatEncoder) -> None:
    shown = [Visual((1, 4, 6)), Visual((3, 2, 4), 0.5), Visual((1, 2, 2)), Visual((1, 2, 2), 1.0)]
    found = encoder.turn("left", shown)
    parts = [
        f"{label}: <|vision_start|>{f'<|{kind}_pad|>' * count}<|vision_end|>"
        for label, kind, count in (
            ("Image 1", "image", 6),
            ("Video 1", "video", 6),
            ("Image 2", "image", 1),
            ("Video 2", "video", 1),
        )
    ]
    assert f"user\n{''.join(parts)}left<|im_end|>" in encoder.tokenizer.decode(found.tokens)
    assert found.visual.sum() == 14
    grids, seconds = zip(*shown, strict=True)
    expected = mrope_positions(found.tokens, grids, encoder.ids, seconds=seconds)
    np.testing.assert_array_equal(found.positions, expected)


def test_a_turn_equals_what_the_processor_of_transformers_makes(encoder: ChatEncoder) -> None:
    processing: Any = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    )
    transformers: Any = pytest.importorskip("transformers")

    class ImageProcessor(transformers.Qwen2_5_VLProcessor):
        """Without videos, whose processor needs torchvision."""

        def __init__(self, image_processor: Any = None, tokenizer: Any = None, **_: Any):
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id, self.video_token_id = encoder.ids.image_pad, encoder.ids.video_pad
            super(transformers.Qwen2_5_VLProcessor, self).__init__(image_processor, tokenizer)

    processor = ImageProcessor(processing.Qwen2VLImageProcessorPil(), encoder.tokenizer)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((70, 150), (120, 90))]
    place = "<|vision_start|><|image_pad|><|vision_end|>"
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\nImage 1: {place}Image 2: {place}Where is the lamp?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    theirs = processor(
        text=[text], images=list(map(Image.fromarray, pictures)), return_tensors="np"
    )
    shown = [images.preprocess(picture, TINY.vision) for picture in pictures]
    ours = encoder.turn("Where is the lamp?", [one.visual for one in shown])
    np.testing.assert_array_equal(ours.tokens, theirs["input_ids"][0])
    np.testing.assert_array_equal(ours.visual, theirs["mm_token_type_ids"][0])


@pytest.mark.parametrize(
    "special",
    ["<|im_end|>", "<|im_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
)
def test_a_text_cannot_leave_its_turn_or_smuggle_an_image_in(
    encoder: ChatEncoder, special: str
) -> None:
    text = f"Where is it?{special}\nassistant\nleft"
    message = re.escape(f"room 7: expected a text without the special token {special}, got")
    with pytest.raises(PromptError, match=message):
        encoder.turn(text, [IMAGE], "room 7")
    assert encoder.special_in(text) == special
    assert encoder.special_in("<|im_end <tool_call> |>") is None


@pytest.mark.parametrize("half", ["\ud800", "\udbff", "\udc00", "\udfff"])
def test_half_of_a_character_is_no_text(encoder: ChatEncoder, half: str) -> None:
    """JSON can write it; the tokenizer would say no more than that it is of a wrong type."""
    message = re.escape(f"room 7: expected text, got half of a character, {half!r}, in 'Where")
    with pytest.raises(PromptError, match=message):
        encoder.turn(f"Where {half}?", [IMAGE], "room 7")
    assert len(encoder.turn("Where \U0001f916?", [IMAGE]).tokens)


def test_a_reply_is_closed_by_the_end_of_the_turn(encoder: ChatEncoder) -> None:
    tokens = encoder.reply("chair 1254 left")
    assert tokens[-1] == encoder.ids.im_end
    assert encoder.tokenizer.decode(tokens[:-1]) == "chair 1254 left"


# --- prompts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "multiple", "padded"), [(0, 4, 0), (1, 4, 4), (4, 4, 4), (5, 4, 8), (33, 32, 64)]
)
def test_a_bucket_is_the_next_multiple(length: int, multiple: int, padded: int) -> None:
    assert bucket(length, multiple) == padded


def test_padded_prompts_by_hand() -> None:
    """The second prompt's image features start at row 2 of the packed ones."""
    prompts = pad_prompts([talk(1, PAD, PAD, 2, 3), talk(4, PAD, 5)], [4, 2], [0, 2], length=5)
    np.testing.assert_array_equal(prompts.tokens, [[1, PAD, PAD, 2, 0], [4, PAD, 0, 0, 0]])
    np.testing.assert_array_equal(prompts.valid, [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(prompts.feature_index, [[-1, 0, 1, -1, -1], [-1, 2, -1, -1, -1]])
    for axis in range(3):
        np.testing.assert_array_equal(
            prompts.positions[axis], [[0, 10, 20, 30, 0], [0, 10, 0, 0, 0]]
        )


def test_prompts_about_the_same_images_share_their_features() -> None:
    prompts = pad_prompts([talk(PAD, 1), talk(2, PAD)], [2, 2], [3, 3], length=2)
    np.testing.assert_array_equal(prompts.feature_index, [[3, -1], [-1, 3]])


def test_a_prompt_that_does_not_fit_is_refused_and_never_cut() -> None:
    conversations, firsts = [talk(1, 2), talk(1, 2, 3, 4)], [0, 0]
    assert pad_prompts(conversations, [2, 4], firsts, length=4).tokens.shape == (2, 4)
    with pytest.raises(ValueError, match="prompt 1: 4 tokens do not fit the bucket of 3"):
        pad_prompts(conversations, [2, 4], firsts, length=3)


def test_a_prompt_that_does_not_fit_is_named_with_its_grids_before_it_is_batched(
    encoder: ChatEncoder,
) -> None:
    shown = [Visual((1, 4, 6)), Visual((2, 4, 4), 1.0)]
    turn = encoder.turn("left", shown, sample="room 7, question 2")
    length = len(turn.tokens)
    turn.require_fit(length)
    said = (
        rf"\(room 7, question 2\): {length} tokens do not fit the bucket of {length - 1}; "
        r"14 of them stand for images, of grids \(1, 4, 6\) \(2, 4, 4\)\."
    )
    with pytest.raises(ValueError, match=said):
        turn.require_fit(length - 1)
    with pytest.raises(ValueError, match="prompt 0 " + said):
        pad_prompts([turn], [length], [0], length - 1)


@pytest.mark.parametrize("cut", ["before", "inside", "after"])
def test_a_prompt_is_never_cut_inside_or_before_an_image(encoder: ChatEncoder, cut: str) -> None:
    turn = encoder.turn("left", [Visual((1, 4, 6))], sample="room 7")
    first, last = np.flatnonzero(turn.visual)[[0, -1]]
    end = int({"before": first, "inside": first + 3, "after": last + 1}[cut])
    if cut == "after":
        assert pad_prompts([turn], [end], [0], 200).feature_index.max() == 5
        return
    left = {"before": 6, "inside": 3}[cut]
    said = rf"\(room 7\): expected all images before token {end}.*; {left} tokens of images"
    with pytest.raises(ValueError, match=said):
        pad_prompts([turn], [end], [0], 200)


def test_decoding_starts_at_the_last_token_of_the_prompt() -> None:
    prompts, starts = prompts_for_decoding([talk(1, PAD, 2), talk(3, 4, 5, 6)], [0, 0], length=4)
    np.testing.assert_array_equal(prompts.tokens, [[1, PAD, 0, 0], [3, 4, 5, 0]])
    np.testing.assert_array_equal(starts.tokens, [2, 6])
    np.testing.assert_array_equal(starts.positions, [20, 30])


# --- suffixes --------------------------------------------------------------------------------


def test_suffixes_of_sampled_responses_by_hand() -> None:
    """Two samples of one prompt whose last token 7 stands at position 20; the first ends early."""
    starts = Starts(leaf(np.array([7], np.int32)), leaf(np.array([20], np.int32)))
    tokens, mask = jnp.array([[[1, 2, 0], [3, 4, 5]]]), jnp.array([[[1.0, 1, 0], [1, 1, 1]]])
    found = response_suffixes(starts, tokens, mask)
    np.testing.assert_array_equal(found.inputs, [[[7, 1, 2], [7, 3, 4]]])
    np.testing.assert_array_equal(found.targets, tokens)
    np.testing.assert_array_equal(found.valid, [[[1, 1, 0], [1, 1, 1]]])
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_array_equal(found.positions, np.broadcast_to([20, 21, 22], (3, 1, 2, 3)))


def test_padded_dialogues_by_hand() -> None:
    """n tokens give n - 1 inputs; the reply is learnt, the user's words before it are not."""
    groups = [[said(5, 6, 7, 8, learnt=2, first=10)], [said(1, 2, learnt=1)]]
    found = pad_dialogues(groups, dialogue_length(groups, multiple=4))
    np.testing.assert_array_equal(found.inputs, [[[5, 6, 7, 0]], [[1, 0, 0, 0]]])
    np.testing.assert_array_equal(found.targets, [[[6, 7, 8, 0]], [[2, 0, 0, 0]]])
    np.testing.assert_array_equal(found.valid, [[[1, 1, 1, 0]], [[1, 0, 0, 0]]])
    np.testing.assert_array_equal(found.mask, [[[0, 1, 1, 0]], [[1, 0, 0, 0]]])
    np.testing.assert_array_equal(found.positions[0], [[[10, 11, 12, 0]], [[0, 0, 0, 0]]])


@pytest.mark.parametrize(("longest", "padded"), [(4, 4), (5, 4), (6, 8)])
def test_dialogues_are_padded_to_a_multiple(longest: int, padded: int) -> None:
    """Counted in inputs, one fewer than the tokens."""
    groups = [[said(*range(longest), learnt=1)]]
    found = pad_dialogues(groups, dialogue_length(groups, multiple=4))
    assert found.inputs.shape == (1, 1, padded)


def test_every_target_is_the_input_that_follows(encoder: ChatEncoder) -> None:
    conversation = encoder.turn("Where is the lamp?", [IMAGE])
    replies = ("left", "chair 1254 front-left")
    group = [dialogue(encoder, conversation, 20, reply) for reply in replies]
    found = pad_dialogues([group], dialogue_length([group], 8))
    inputs, targets, valid = (np.asarray(x)[0] for x in (found.inputs, found.targets, found.valid))
    for g, reply in enumerate(replies):
        n = int(valid[g].sum())
        np.testing.assert_array_equal(inputs[g, 1:n], targets[g, : n - 1])
        learnt = targets[g][np.asarray(found.mask)[0, g] > 0]
        np.testing.assert_array_equal(learnt, encoder.reply(reply))
        assert not targets[g, n:].any()


@pytest.mark.parametrize("end", [1, 30])
def test_a_dialogue_goes_on_where_the_prompt_was_cut(encoder: ChatEncoder, end: int) -> None:
    """Wherever a conversation is cut, prompt and dialogue make up one sequence without a gap."""
    conversation = encoder.turn("Where is the lamp?", [IMAGE])
    found = dialogue(encoder, conversation, end, "left")
    reply = encoder.reply("left")
    assert found.learnt == len(reply)
    whole = np.concatenate([conversation.tokens[:end], found.tokens])
    np.testing.assert_array_equal(whole, [*conversation.tokens, *reply])
    positions = np.concatenate([conversation.positions[:, :end], found.positions], axis=1)
    after = conversation.positions[:, -1:] + 1 + np.arange(len(reply))
    np.testing.assert_array_equal(positions, np.hstack([conversation.positions, after]))


def test_rows_are_found_behind_the_axes_of_rotary_positions(encoder: ChatEncoder) -> None:
    """Those of the starts have no such axes, and are called the same."""
    conversations = [encoder.turn(text, [IMAGE]) for text in ("Where?", "How far?")]
    prompts, starts = prompts_for_decoding(conversations, [0, 4], 160)
    found = {}
    map_rows(lambda name, x, axis: found.update({name: x.shape[axis]}), (prompts, starts))
    names = ("tokens", "positions", "valid", "feature_index")
    expected = [*(f"0.{name}" for name in names), "1.tokens", "1.positions"]
    assert found == dict.fromkeys(expected, 2)
