"""The published scoring, case by case: every row was obtained from the published functions."""

import math
import random
import re

import pytest

from spatialevo_jax import published


def question(observation: str = "A chair stands by the wall.", text: str = "How far is it?") -> str:
    return f"<observation>{observation}</observation><question>{text}</question>"


def asked_reward(
    response: str,
    judged: float | None,
    *,
    task: str = "object_size",
    valid: bool = True,
    truth="80 cm",
) -> float:
    value = published.question_value(task, valid, truth)
    return published.questioner_reward(published.parse_question(response), value, judged)


@pytest.mark.parametrize(("judged", "reward"), [(1.0, 1.0), (0.6, 0.64), (0.3, 0.37), (None, 0.19)])
def test_a_clean_valid_question_earns_what_the_judge_says(
    judged: float | None, reward: float
) -> None:
    assert asked_reward(question(), judged) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("task", "truth"),
    [("object_counting", "1"), ("depth_order_obj_obj", "same"), ("visibility_compare", "neither")],
)
def test_uninformative_truths_are_worth_half(task: str, truth: str) -> None:
    assert asked_reward(question(), 1.0, task=task, truth=truth) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("response", "valid", "reward"),
    [
        (question(), False, 0.1),
        ("<question>How far?</question>", True, 0.05),
        (question() + "<question>And this?</question>", True, -1.0),
        (question(text="How <b>far</b>?"), True, -1.0),
        ("How far is the chair?", True, 0.0),  # repaired
        ("Sure! " + question(), True, 0.0),
        (question(observation="a < b and c > d"), True, -1.0),
    ],
)
def test_form_of_a_question(response: str, valid: bool, reward: float) -> None:
    assert asked_reward(response, 1.0, valid=valid) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("response", "task", "truth", "reward"),
    [
        ("so <answer>2.0</answer>", "absolute_distance", "2.00 meters", 1.0),
        ("2.0", "absolute_distance", "2.00 meters", 0.0),
        ("<answer></answer>", "absolute_distance", "2.00 meters", 0.1),
        ("<answer>2</answer><answer>2</answer>", "absolute_distance", "2.00 meters", -1.0),
        ("<b>so</b> <answer>2</answer>", "absolute_distance", "2.00 meters", -1.0),
        ("a <b and c> <answer>2</answer>", "absolute_distance", "2.00 meters", -1.0),
        ("<answer>2.2</answer>", "absolute_distance", "2.00 meters", 0.8364),
        ("<answer>3</answer>", "object_counting", "4", 0.37),
        ("<answer>left</answer>", "single_image_relative_direction", "front-left", 0.19),
    ],
)
def test_reward_of_an_answer(response: str, task: str, truth: str, reward: float) -> None:
    found = published.solver_reward(response, task, truth, valid=True)
    assert found == pytest.approx(reward, abs=5e-5)


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        ("It is not unique.", 0.9),
        ("<b>It</b> is not unique.", 0.8),
        ("<answer>a</answer><answer>b</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_reward_of_an_explanation_that_a_judge_likes(response: str, reward: float) -> None:
    found = published.solver_reward(response, "object_size", "", valid=False, judged=1.0)
    assert found == pytest.approx(reward)


@pytest.mark.parametrize(
    ("reply", "level"),
    [("1", 1.0), ("1.0", 1.0), ("10", 1.0), ("0.3", 0.3), ("0.6", 0.6), ("0", 0.0), ("0.5", 0.0)]
    + [("0.9", 0.0), ("good", 0.0), ("1. The explanation is wrong", 1.0)],
)
def test_level_of_a_judges_reply(reply: str, level: float) -> None:
    assert published.judge_level(reply) == level


@pytest.mark.parametrize(
    ("predicted", "share"),
    # A little off the edges, where rounding decides.
    [(1.0499, 1), (1.0501, 0.9091), (1.0949, 0.9091), (1.0999, 0.8182), (1.1399, 0.8182)]
    + [(1.1999, 0.6364), (1.2501, 0.5455), (1.2999, 0.4545), (1.4001, 0.2727), (1.4999, 0.0909)]
    + [(1.51, 0), (0.0, 0), (0.5001, 0.0909)],
)
def test_relative_accuracy_has_eleven_tolerances(predicted: float, share: float) -> None:
    assert published.mean_relative_accuracy(predicted, 1.0) == pytest.approx(share, abs=5e-5)


@pytest.mark.parametrize(
    ("text", "value"),
    [("85cm", 8), ("2.35m", 2.3), ("5m", None), ("85 cm", 85), ("three chairs", 3)]
    + [("about three", None), ("1,234", 1234), ("twenty-one", 21), ("one hundred and five", 105)]
    + [("one" + " hundred" * 200, math.inf)]
    + [("1/2", 1), ("2-3", 2)],
)
def test_numbers_as_they_were_read(text: str, value: float | None) -> None:
    assert published.number(text) == value


@pytest.mark.parametrize(
    ("task", "answer", "truth", "score"),
    [
        ("position_cam_obj", "to the front left of the table", "front-left", 1),
        ("position_cam_obj", "left", "front-left", 0),
        ("motion_camera", "clockwise", "right", 1),
        ("motion_camera", "counter clockwise", "left", 1),
        ("position_cam_obj", "left of the front door", "front-left", 1),
        ("motion_camera", "same", "same", 0),
        ("single_image_relative_direction", "overlap", "overlap", 0),
        ("single_image_relative_direction", "up-left", "up-front-left", 1),
        ("single_image_relative_direction", "up-front", "front-up", 1),
        ("single_image_relative_direction", "left", "up-front-left", 0),
        ("position_cam_obj", "leftfront", "front-left", 1),
        ("position_cam_obj", "upright", "up-right", 1),
        ("depth_order_obj_obj", "the office chair", "office chair", 1),
        ("depth_order_obj_obj", "trash can", "trash_can", 1),
        ("depth_order_obj_obj", "chairs", "chair", 0),
        ("visibility_compare", "Image_2", "image2", 1),
        ("visibility_compare", "the second image", "image2", 1),
        ("visibility_compare", "2", "image2", 0),
        ("depth_order_obj_obj", "", "invalid", 1),
    ],
)
def test_accuracy_of_choices(task: str, answer: str, truth: str, score: float) -> None:
    assert published.accuracy(task, answer, truth) == score


BITS = ("<", "/", ">", "question", "answer", "<question>", "</question>", "<answer>", "</answer>")
BITS += ("<observation>", "< / observation\t>", "<b>", " ", "\n", "\t", "A", "2.5", ".")


def test_texts_are_read_as_by_the_published_patterns() -> None:
    """These are plain, and take squared time on some long texts."""
    rng = random.Random(0)

    def whole(name: str) -> re.Pattern[str]:
        return re.compile(rf"<\s*{name}\s*>(.*?)<\s*/\s*{name}\s*>", re.IGNORECASE | re.DOTALL)

    for _ in range(2_000):
        text = "".join(rng.choices(BITS, k=rng.randrange(12)))
        joined = re.sub(r"\s*\n+\s*", " ", text)
        assert published.clean(text) == joined.strip().rstrip(".").lower().strip()
        assert published.any_tags(text) == published.ANY_TAG.findall(text)
        for name in ("question", "observation", "answer"):
            expected = whole(name).findall(text), whole(name).sub("", text)
            assert published.blocks(name, text) == expected


@pytest.mark.parametrize(
    "bit", ["<a", "<question>", "</question>", "<answer>", "</answer>", "< ", " ", "\n", "."]
)
def test_a_long_reply_is_read_in_linear_time(bit: str) -> None:
    """In squared time this takes hours."""
    text = bit * 500_000
    assert not published.parse_question(text).question
    assert published.number(text) is None
    assert published.solver_reward(text, "object_size", "80 cm", valid=True) <= 0.0
