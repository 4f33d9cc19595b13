"""The small tokenizer: nothing is lost, and it stands in for the released one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from spatialevo_jax.tokenizer import (
    ADDED,
    CHAT_TEMPLATE,
    NOT_SPECIAL,
    load_tokenizer,
    special_ids,
    train_tokenizer,
)

VOCABULARY = 330
TEXTS = [
    "How far is the chair from the camera in meters?",
    "<observation>chair 1234 lamp 1356</observation><question>Where is the lamp?</question>",
    "chair 1254 table 1347<answer>front-left</answer>",
] * 4
ONE_IMAGE: Any = [
    {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Where is the lamp?"}],
    }
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "deep" / "tokenizer"
    train_tokenizer(TEXTS, VOCABULARY, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS[:3],
        "",
        "  two  blanks, a\ttab\r\nand lines\n\n\n",
        "1234567890 3.14",
        "caf\u00e9, \u4f60\u597d, \u0395\u03bb, \U0001f916",  # nothing of this was trained on
        "don't <answer> a < b </answer> <|not_a_token|>",
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>",
    ],
)
def test_what_is_encoded_decodes_to_the_same_text(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    assert tokenizer.decode(encode(tokenizer, text)) == text


def test_digits_stand_alone_and_trained_words_do_not_fall_apart(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """A pointing is a word and four digits, whatever digits were often seen together."""
    pieces = tokenizer.convert_ids_to_tokens(encode(tokenizer, "chair 1234"))
    assert pieces[-4:] == ["1", "2", "3", "4"]
    assert len(encode(tokenizer, " chair")) < len(" chair")


def test_the_vocabulary_has_the_size_asked_for_and_ends_with_the_added_tokens(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert len(tokenizer) == VOCABULARY
    first = VOCABULARY - len(ADDED)
    assert tokenizer.convert_tokens_to_ids(list(ADDED)) == list(range(first, VOCABULARY))
    for index, token in enumerate(ADDED):
        assert encode(tokenizer, token) == [first + index]


def test_special_ids_are_those_of_their_names(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, first = special_ids(tokenizer), VOCABULARY - len(ADDED)
    assert (ids.pad, ids.im_end) == (first, first + 2)
    assert (ids.vision_start, ids.vision_end) == (first + 9, first + 10)
    assert (ids.image_pad, ids.video_pad) == (first + 12, first + 13)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (ids.im_end, ids.pad)
    assert tokenizer.bos_token_id is None


def test_only_control_tokens_vanish_from_decoded_text(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = encode(tokenizer, "".join(f"{token}x" for token in ADDED))
    shown = "".join(f"{token}x" if token in NOT_SPECIAL else "x" for token in ADDED)
    assert tokenizer.decode(ids, skip_special_tokens=True) == shown


SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ASKED = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where is the lamp?<|im_end|>\n"
)


# The texts on the right are what the released chat template of Qwen2.5-VL makes of the messages.
@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (ONE_IMAGE, SYSTEM + ASKED),
        (
            [{"role": "user", "content": "words only"}],
            SYSTEM + "<|im_start|>user\nwords only<|im_end|>\n",
        ),
        (
            [{"role": "system", "content": "Be brief."}, *ONE_IMAGE],
            "<|im_start|>system\nBe brief.<|im_end|>\n" + ASKED,
        ),
        (
            [*ONE_IMAGE, {"role": "assistant", "content": "left"}, *ONE_IMAGE],
            SYSTEM + ASKED + "<|im_start|>assistant\nleft<|im_end|>\n" + ASKED,
        ),
        (
            [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "{{ x }}"}]}],
            SYSTEM
            + "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>{{ x }}<|im_end|>\n",
        ),
    ],
)
def test_the_chat_template_says_what_the_released_one_says(
    tokenizer: PreTrainedTokenizerBase, messages: Any, expected: str
) -> None:
    assert tokenizer.apply_chat_template(messages, tokenize=False) == expected
    asking = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert asking == expected + "<|im_start|>assistant\n"


def without_template(folder: Path, target: Path) -> Path:
    """A copy of a tokenizer whose settings have no chat template."""
    shutil.copytree(folder, target)
    settings = json.loads((target / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    return target


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_the_chat_template_may_have_its_own_file(folder: Path, tmp_path: Path, name: str) -> None:
    place = without_template(folder, tmp_path / "apart")
    written = json.dumps({"chat_template": CHAT_TEMPLATE}) if name.endswith("n") else CHAT_TEMPLATE
    (place / name).write_text(written)
    said = load_tokenizer(place).apply_chat_template(ONE_IMAGE, tokenize=False)
    assert said == SYSTEM + ASKED


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for %}", "TemplateSyntaxError: Expected an expression"),
        ("{{ raise_exception('only one turn') }}", "TemplateError: only one turn"),
        ("{{ messages[0].x.y }}", "UndefinedError: 'dict object' has no attribute 'x'"),
        ("{{ 'a' + 1 }}", "TypeError: can only concatenate"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% include 'x' %}", "TypeError: no loader"),
        (3, "TypeError: "),
        (None, "ValueError: .*chat_template is not set"),
        ("", "got '' for 'Which"),
        ({"default": "x"}, "got 'x' for 'Which"),
        ("{{ messages[0]['content'][1]['text'] }}", "got 'Which"),
        (f"\ud800{CHAT_TEMPLATE}", r"got '\\ud800<\|im_start\|>system"),
    ],
)
def test_a_chat_template_that_does_not_say_a_turn_is_refused(
    folder: Path, tmp_path: Path, template: Any, says: str
) -> None:
    place = without_template(folder, tmp_path / "other")
    path = place / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    with pytest.raises(ValueError, match=f"^{place}: expected a chat template that .*{says}"):
        load_tokenizer(place)


def test_a_saved_folder_reads_with_transformers_and_from_elsewhere(
    tokenizer: PreTrainedTokenizerBase, folder: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    tokenizer.save_pretrained(str(moved))
    for place in (folder, moved):
        again = AutoTokenizer.from_pretrained(str(place), local_files_only=True)
        assert again.get_vocab() == tokenizer.get_vocab()
        assert encode(again, TEXTS[1]) == encode(tokenizer, TEXTS[1])
        assert special_ids(again) == special_ids(tokenizer)
        assert again.chat_template == tokenizer.chat_template


def test_training_twice_gives_the_same_files_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    train_tokenizer(iter(TEXTS), VOCABULARY, again)
    names = ["tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in again.iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # no partial folder is left
    for name in names:
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_vocabulary_too_small_for_the_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size: expected at least 278, got 277"):
        train_tokenizer(TEXTS, 277, tmp_path / "small")
    train_tokenizer(TEXTS, 278, tmp_path / "bytes")
    assert len(load_tokenizer(tmp_path / "bytes")) == 278


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing: expected a tokenizer"):
        load_tokenizer(tmp_path / "nothing")


def test_a_broken_file_of_a_tokenizer_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "cut")
    path = tmp_path / "cut" / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut/tokenizer\.json: expected JSON"):
        load_tokenizer(tmp_path / "cut")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tokenizer.json", "[]", r"cut/tokenizer\.json: expected a JSON object, got list"),
        ("tokenizer.json", "{}", "cut: expected a tokenizer that transformers reads"),
        ("tokenizer_config.json", "3", r"cut/tokenizer_config\.json: expected a JSON object"),
        ("special_tokens_map.json", "{", r"cut/special_tokens_map\.json: expected JSON"),
        ("vocab.json", "{", r"cut/vocab\.json: expected JSON"),
        ("chat_template.json", "[]", r"cut/chat_template\.json: expected a JSON object"),
        ("added_tokens.json", "[]", r"cut/added_tokens\.json: expected a JSON object"),
    ],
)
def test_a_file_of_another_form_is_named(
    folder: Path, tmp_path: Path, name: str, text: str, says: str
) -> None:
    shutil.copytree(folder, tmp_path / "cut")
    (tmp_path / "cut" / name).write_text(text)
    (tmp_path / "cut" / "tokenizer_notes.json").write_text("not read by anyone")
    with pytest.raises(ValueError, match=says):
        load_tokenizer(tmp_path / "cut")


def test_a_tokenizer_without_the_special_tokens_is_refused(tmp_path: Path) -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))
    with pytest.raises(ValueError, match=r"expected the token <\|im_end\|>"):
        special_ids(plain)
