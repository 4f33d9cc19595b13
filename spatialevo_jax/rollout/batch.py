"""From images and texts to padded arrays. Host side, NumPy.

A conversation is cut in two: a *prompt* whose keys and values are computed once, and the *suffixes*
that share it. P prompts of S tokens, G suffixes of T tokens. The first input of a suffix is the
token that follows the prompt:

    prompt   <|im_start|> system … <|im_end|> <|im_start|> user Image 1: ▣▣▣▣ … assistant
    inputs                                                                             ⏎   1 chair c
    … targets                                                                            1 chair c …
    <|im_end|>
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from transformers import PreTrainedTokenizerBase

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl.images import Visual, grid_list
from spatialevo_jax.models.qwen2_5_vl.rope import mrope_positions
from spatialevo_jax.tokenizer import HALF, SpecialIds
from spatialevo_jax.trees import dotted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    tokens: jax.Array  # (P, S) i32, padded on the right
    positions: jax.Array  # (3, P, S) i32, multimodal rotary positions
    valid: jax.Array  # (P, S) bool, False for padding
    feature_index: jax.Array  # (P, S) i32, row of the packed image features, -1 for text


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Suffixes:
    inputs: jax.Array  # (P, G, T) i32
    targets: jax.Array  # (P, G, T) i32, the token that follows each input
    positions: jax.Array  # (3, P, G, T) i32
    valid: jax.Array  # (P, G, T) bool, inputs that are real
    mask: jax.Array  # (P, G, T) f32, 1 where the target is the policy's own text


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Starts:
    """Where decoding begins: the last token of each prompt, not yet seen by the model."""

    tokens: jax.Array  # (P,) i32
    positions: jax.Array  # (P,) i32, the same on all three rotary axes


def map_rows(function: Callable[[str, Any, int], Any], batch: Any) -> Any:
    """A tree of batches with `function(name, array, axis)` in the place of each array. Its rows lie
    along `axis`: the first one, but for rotary positions, which have three numbers for each token.
    """

    def at(path: Any, node: Any) -> Any:
        name = dotted(path) or type(node).__name__
        if not isinstance(node, Prompts | Suffixes):
            return function(name, node, 0)
        arrays = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        mapped = {
            field: function(f"{name}.{field}", array, int(field == "positions"))
            for field, array in arrays.items()
        }
        return dataclasses.replace(node, **mapped)

    def whole(node: Any) -> bool:
        return isinstance(node, Prompts | Suffixes)

    return jax.tree_util.tree_map_with_path(at, batch, is_leaf=whole)


class PromptError(ValueError):
    """A prompt can't be given."""


class PromptTooLongError(PromptError):
    """It has no room in the length that the run gives to prompts."""


@dataclasses.dataclass(frozen=True)
class Conversation:
    """One prompt as tokens, before padding."""

    tokens: np.ndarray  # (n,) i32
    positions: np.ndarray  # (3, n) i32
    visual: np.ndarray  # (n,) bool, True where a visual feature takes the token's place
    shown: tuple[Visual, ...] = ()  # the images and videos of these features
    sample: str = ""  # what it is called in errors

    def require_fit(self, length: int, *, end: int | None = None, name: str = "prompt") -> None:
        """Checks that the first `end` tokens (all by default) fit, with every image among them.

        Raises:
            PromptTooLongError: they don't; it names the sample, the grids and the budget of
                `length`.
        """
        end = len(self.tokens) if end is None else end
        name += f" ({self.sample})" if self.sample else ""
        grids = grid_list([one.grid for one in self.shown])
        if end > length:
            raise PromptTooLongError(
                f"{name}: {end} tokens do not fit the bucket of {length}; "
                f"{int(self.visual.sum())} of them stand for images, of grids {grids}."
            )
        if self.visual[end:].any():
            raise PromptTooLongError(
                f"{name}: expected all images before token {end}, where the prompt is cut; "
                f"{int(self.visual[end:].sum())} tokens of images come after it, grids {grids}."
            )


@dataclasses.dataclass(frozen=True)
class ChatEncoder:
    """Turns images and a text into the tokens of a user turn that asks for a reply."""

    tokenizer: PreTrainedTokenizerBase
    ids: SpecialIds
    images_last: bool = False  # the text first: then a reply begins right after the images
    merge: int = 2  # patches a side that become one visual token
    tokens_per_second: int = 2  # of video

    def turn(self, text: str, shown: Sequence[Visual], sample: str = "") -> Conversation:
        """A turn about images and videos of any sizes, announced as "Image 1: " or "Video 1: ".

        Raises:
            PromptError: see `require_plain`.
        """
        self.require_plain(text, sample or "prompt")
        content, counts = [], {"image": 0, "video": 0}
        for one in shown:
            counts[one.kind] += 1
            label = f"{one.kind.capitalize()} {counts[one.kind]}: "
            content += [{"type": "text", "text": label}, {"type": one.kind}]
        words = {"type": "text", "text": f"{text} " if self.images_last else text}
        content = [words, *content] if self.images_last else [*content, words]
        message = {"role": "user", "content": content}
        rendered = self.tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        ids = np.asarray(self.encode(str(rendered)), np.int32)
        pads = np.isin(ids, (self.ids.image_pad, self.ids.video_pad))
        if pads.sum() != len(shown):
            raise PromptError(
                f"{sample or 'prompt'}: expected {len(shown)} image tokens, got {pads.sum()} "
                f"in {text!r}."
            )
        repeats = np.ones(len(ids), np.int64)
        repeats[pads] = [math.prod(one.grid) // self.merge**2 for one in shown]
        tokens = np.repeat(ids, repeats)
        positions = mrope_positions(
            tokens,
            [one.grid for one in shown],
            self.ids,
            self.merge,
            seconds=[one.seconds for one in shown],
            tokens_per_second=self.tokens_per_second,
        )
        return Conversation(tokens, positions, np.repeat(pads, repeats), tuple(shown), sample)

    def require_plain(self, text: str, name: str) -> None:
        """Checks that a text is no more than words.

        Raises:
            PromptError: it has half of a character, which is no text, or spells one of the
                tokenizer's special tokens, such as those that stand for images or end a turn.
        """
        if half := HALF.search(text):
            raise PromptError(
                f"{name}: expected text, got half of a character, {half[0]!r}, in {text!r}."
            )
        if special := self.special_in(text):
            raise PromptError(
                f"{name}: expected a text without the special token {special}, got {text!r}."
            )

    def special_in(self, text: str) -> str | None:
        """A special token that a text spells. It would be taken for the token: a text that ends its
        turn says what follows in another's name.
        """
        known = self.tokenizer.added_tokens_decoder.values()
        return next((one.content for one in known if one.special and one.content in text), None)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def reply(self, text: str) -> list[int]:
        """Tokens of a reply, closed by the end-of-turn token."""
        return [*self.encode(text), self.ids.im_end]


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """What follows a shared prompt: the rest of the user's turn and the reply to learn."""

    tokens: np.ndarray  # (n,) i32
    positions: np.ndarray  # (3, n) i32
    learnt: int  # how many tokens at the end are the reply


def bucket(length: int, multiple: int) -> int:
    """The padded length: the next multiple, so that few shapes are ever compiled."""
    return -(-length // multiple) * multiple


def pad_prompts(
    conversations: Sequence[Conversation],
    ends: Sequence[int],
    first_features: Sequence[int],
    length: int,
) -> Prompts:
    """Stacks the first `ends[i]` tokens of each conversation.

    `first_features[i]` is the row of its first visual token in the packed features; prompts about
    the same images share their features.

    Raises:
        ValueError: a prompt is longer than `length`, or an image would be left behind in what
            follows the prompt; nothing is ever cut, an image least of all.
    """
    count = len(conversations)
    tokens = np.zeros((count, length), np.int32)
    positions = np.zeros((3, count, length), np.int32)
    valid = np.zeros((count, length), bool)
    feature_index = np.full((count, length), -1, np.int32)
    rows = zip(conversations, ends, first_features, strict=True)
    for row, (conversation, end, first) in enumerate(rows):
        conversation.require_fit(length, end=end, name=f"prompt {row}")
        tokens[row, :end] = conversation.tokens[:end]
        positions[:, row, :end] = conversation.positions[:, :end]
        valid[row, :end] = True
        where = np.flatnonzero(conversation.visual)
        feature_index[row, where] = first + np.arange(len(where))
    return Prompts(*map(leaf, (tokens, positions, valid, feature_index)))


def prompts_for_decoding(
    conversations: Sequence[Conversation], first_features: Sequence[int], length: int
) -> tuple[Prompts, Starts]:
    """All tokens but the last of each prompt, and the last one as the first input of decoding."""
    ends = [len(conversation.tokens) - 1 for conversation in conversations]
    starts = Starts(
        tokens=leaf(np.asarray([one.tokens[-1] for one in conversations], np.int32)),
        positions=leaf(np.asarray([one.positions[0, -1] for one in conversations], np.int32)),
    )
    return pad_prompts(conversations, ends, first_features, length), starts


def response_suffixes(starts: Starts, tokens: jax.Array, mask: jax.Array) -> Suffixes:
    """Sampled responses (P, G, T) with their mask as suffixes of their prompts. Device side."""
    prompts, samples, length = tokens.shape
    first = jnp.broadcast_to(starts.tokens[:, None, None], (prompts, samples, 1))
    positions = starts.positions[:, None, None] + jnp.arange(length)
    positions = jnp.broadcast_to(positions, (3, prompts, samples, length))
    return Suffixes(
        inputs=jnp.concatenate([first, tokens[..., :-1]], axis=-1),
        targets=tokens,
        positions=positions,
        # Input t is real exactly when it has a target: response t - 1 was not the end.
        valid=mask > 0,
        mask=mask,
    )


def dialogue(encoder: ChatEncoder, conversation: Conversation, end: int, reply: str) -> Dialogue:
    """The part of a conversation from token `end` on, followed by a reply to learn."""
    answer = np.asarray(encoder.reply(reply), np.int32)
    after = conversation.positions[:, -1:] + 1 + np.arange(len(answer))
    return Dialogue(
        tokens=np.concatenate([conversation.tokens[end:], answer]),
        positions=np.concatenate([conversation.positions[:, end:], after], axis=1),
        learnt=len(answer),
    )


def dialogue_length(groups: Sequence[Sequence[Dialogue]], multiple: int) -> int:
    """The padded number of inputs of these dialogues; n tokens give n - 1 inputs."""
    return bucket(max(len(one.tokens) for group in groups for one in group) - 1, multiple)


def pad_dialogues(groups: Sequence[Sequence[Dialogue]], length: int) -> Suffixes:
    """Stacks P groups of G dialogues, each padded to `length` inputs with their targets."""
    shape = (len(groups), len(groups[0]), length)
    inputs, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    positions, mask = np.zeros((3, *shape), np.int32), np.zeros(shape, np.float32)
    valid = np.zeros(shape, bool)
    for p, group in enumerate(groups):
        for g, one in enumerate(group):
            n = len(one.tokens) - 1
            inputs[p, g, :n], targets[p, g, :n] = one.tokens[:-1], one.tokens[1:]
            positions[:, p, g, :n] = one.positions[:, :-1]
            valid[p, g, :n] = True
            mask[p, g, n - one.learnt : n] = 1.0
    return Suffixes(*map(leaf, (inputs, targets, positions, valid, mask)))
