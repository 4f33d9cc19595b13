"""The tokenizer: Qwen2.5's byte-level BPE, either read from a released folder or trained small on
the project's own texts.

A folder holds `tokenizer_config.json` and `tokenizer.json`, or `vocab.json` and `merges.txt`; the
chat template stands in one of the places where the hub has it.
"""

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

# Qwen2's split: contractions, words with one leading separator, single digits, punctuation, line
# ends, blanks.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Qwen2.5's added tokens, in the order of their ids.
ADDED = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
NOT_SPECIAL = ADDED[14:]  # kept in decoded text, as in the released tokenizer
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TRIED = "Which?"  # a text that every chat template must be able to say
# What a chat template, which is a program of whoever made the folder, may die of.
TEMPLATE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TemplateError,
    TypeError,
    ValueError,
)
HALF = re.compile("[\ud800-\udfff]")  # of a character: what JSON can write, and no text holds
TEMPLATE_FILE = "chat_template.json"  # of the processor, to transformers 4.51
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    TEMPLATE_FILE,
)


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """Ids of the tokens that the project handles by name."""

    im_end: int  # ends a turn
    pad: int
    image_pad: int
    video_pad: int
    vision_start: int
    vision_end: int


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Trains a byte-level BPE of `vocab_size` tokens, the 22 added ones included, and writes it as
    a hub folder.

    Deterministic: the same texts give the same files. The folder appears whole or not at all.

    Raises:
        ValueError: the vocabulary cannot hold the 256 bytes and the added tokens.
    """
    least = 256 + len(ADDED)
    if vocab_size < least:
        raise ValueError(f"vocab_size: expected at least {least}, got {vocab_size}.")
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = BpeTrainer(
        vocab_size=vocab_size - len(ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(
        [AddedToken(t, special=t not in NOT_SPECIAL, normalized=False) for t in ADDED]
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "model_max_length": 131072,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        whole = Path(partial) / "tokenizer"
        whole.mkdir()
        tokenizer.save(str(whole / "tokenizer.json"))
        (whole / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
        whole.rename(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Reads a tokenizer folder through transformers, without any network.

    Raises:
        FileNotFoundError: no tokenizer there. ValueError: a file of it is not what it should be, or
            its chat template can't say a turn.
    """
    if not (folder / "tokenizer_config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a tokenizer (tokenizer_config.json), found none."
        )
    found = {}
    for name in FILES:  # the library would not say which is broken
        path = folder / name
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: expected JSON ({error}).") from error
        if not isinstance(found[name], dict):
            raise ValueError(f"{path}: expected a JSON object, got {type(found[name]).__name__}.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{folder}: expected a tokenizer that transformers reads; it fails with "
            f"{type(error).__name__}: {said}"
        ) from error
    if tokenizer.chat_template is None:
        tokenizer.chat_template = found[TEMPLATE_FILE].get("chat_template")
    _try_template(tokenizer, folder)
    return tokenizer


def _try_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """
    Raises:
        ValueError: there is no chat template, it fails, or leaves out what it is given.
    """
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": TRIED}]}
    try:
        said = str(
            tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
        )
    except TEMPLATE_ERRORS as error:
        raise ValueError(
            f"{folder}: expected a chat template that works; it fails with "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if said.count("<|image_pad|>") != 1 or TRIED not in said or HALF.search(said):
        raise ValueError(
            f"{folder}: expected a chat template that says the one image and the text of a turn, "
            f"got {said!r:.200} for {TRIED!r}."
        )


def special_ids(tokenizer: PreTrainedTokenizerBase) -> SpecialIds:
    """Looks the special tokens up by name.

    Raises:
        ValueError: the tokenizer lacks one of them.
    """

    def find(token: str) -> int:
        index = tokenizer.convert_tokens_to_ids(token)
        if not isinstance(index, int) or tokenizer.convert_ids_to_tokens(index) != token:
            raise ValueError(f"expected the token {token} in the tokenizer, found none.")
        return index

    return SpecialIds(
        im_end=find("<|im_end|>"),
        pad=find("<|endoftext|>"),
        image_pad=find("<|image_pad|>"),
        video_pad=find("<|video_pad|>"),
        vision_start=find("<|vision_start|>"),
        vision_end=find("<|vision_end|>"),
    )
