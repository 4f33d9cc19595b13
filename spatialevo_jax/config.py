"""Every number of a run, as frozen dataclasses. A file in `configs/` fills them in and states only
what differs.

Lengths are in tokens, counts in items; rates are per step. Each class checks itself once, when it
is built.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from geometry_jax.tasks import TASK_IDS
from spatialevo_jax.grpo import Aggregation, KlEstimator, RatioLevel
from spatialevo_jax.models.qwen2_5_vl.config import Remat
from spatialevo_jax.roles.pointing import DOTTED_IMAGES

RewardSource = Literal["geometry", "vote", "shuffled"]
Scoring = Literal["corrected", "published"]
Decay = Literal["linear", "cosine"]
Dtype = Literal["float32", "bfloat16"]
Language = Literal["pointings", "prose"]
SftReply = Literal["answer", "pointings", "rationale"]

MOST = 2**31 - 1  # of what devices count with
# Sizes of real numbers but 0: devices compute with them in float32, which holds their squares too.
SMALLEST, LARGEST = 1e-18, 1e18
COLDEST = 1e-6  # temperature: the logits of banned tokens, -1e30, are divided by it


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_least(config: Any, place: str, least: float, *names: str) -> None:
    """Whole or real numbers that devices can compute with, each not less than `least`."""
    for name in names:
        value = getattr(config, name)
        most = MOST if isinstance(value, int) else LARGEST
        _require(value >= least, f"{place}{name}: expected {least} or more, got {value}.")
        _require(value <= most, f"{place}{name}: expected at most {most}, got {value}.")
        _require(
            value == 0 or value >= SMALLEST,
            f"{place}{name}: expected 0 or at least {SMALLEST}, got {value}.",
        )


def _require_shares(config: Any, place: str, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(0.0 <= value <= 1.0, f"{place}{name}: expected a share in [0, 1], got {value}.")


def _require_rows(config: Any, place: str, *names: str) -> None:
    for name in names:
        rows = getattr(config, name)
        _require(
            min(rows) >= 0 and 0 < sum(rows) <= MOST,
            f"{place}{name}: expected counts of 0 or more, of which one is above it, and at most "
            f"{MOST} together, got {rows}.",
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which rooms are seen, and how a room becomes rows of images."""

    scenes: Path = Path("data/rooms")  # a folder in the unified layout: train/, val/, metadata/
    # Width and height, pixels, of a picture that is seen; those of another form keep theirs, in no
    # more pixels (`data.seen_size`). This one: 16 visual tokens.
    image_size: tuple[int, int] = (112, 112)
    dot_size: int = 0  # pixels of the dots that mark the grid of pointing in images, 0: none
    scene_frames: int = 4  # images of one scene row
    images_last: bool = False  # True: the text first, then a reply begins right after the images
    tasks: tuple[str, ...] = tuple(TASK_IDS)  # what is asked, in training and held out
    wordings: int = 1  # sentence forms of each task in generated and held-out questions
    rows: tuple[int, int, int] = (6, 6, 4)  # of one step of evolution: single images, pairs, scenes
    workers: int = 0  # processes of each host that decode pictures; 0: threads of the run's own

    def __post_init__(self) -> None:
        _require_least(self, "data.", 0, "dot_size", "workers")
        _require_least(self, "data.", 1, "wordings")
        _require_rows(self, "data.", "rows")
        _require(
            all(side > 0 and side % 28 == 0 for side in self.image_size),
            f"data.image_size: expected multiples of 28, got {self.image_size}.",
        )
        unknown = [task for task in self.tasks if task not in TASK_IDS]
        _require(
            bool(self.tasks) and not unknown,
            f"data.tasks: expected some of {', '.join(TASK_IDS)}; got {unknown or 'none'}.",
        )
        _require(
            len(set(self.tasks)) == len(self.tasks),
            f"data.tasks: expected each once, got {', '.join(self.tasks)}.",
        )
        _require(
            self.scene_frames > 2,
            f"data.scene_frames: expected more than 2, got {self.scene_frames}.",
        )
        _require(
            self.dot_size == 0 or self.scene_frames <= DOTTED_IMAGES,
            f"data.dot_size: dots tell at most {DOTTED_IMAGES} images apart, "
            f"data.scene_frames is {self.scene_frames}.",
        )


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """Supervised steps that stand for a pretrained base model.

    Pointing (which object, where) is taught exactly; a share `answer_noise` of the answers is a
    coin flip among the answers the task can have, and a share `question_noise` of the questions
    names labels at random, so that self-evolution has both roles left to improve.
    """

    steps: int = 900
    naming_steps: int = 150  # the first of them: visual tokens name what they show, and no more
    naming_rows: tuple[int, int, int] = (48, 0, 0)  # of one such step, as `rows`
    naming_weight: float = 0.3  # of naming in the steps after these
    looking_steps: int = 450  # the steps until here only point at objects
    looking_rows: tuple[int, int, int] = (16, 0, 0)  # of one such step, as `rows`
    matrix_lr: float = 1e-2  # peak rate of the layers' matrices (Muon)
    peak_lr: float = 4e-3  # and of all other parameters (AdamW)
    warmup_steps: int = 40
    rows: tuple[int, int, int] = (4, 1, 1)  # of one step: single images, pairs, scenes
    looks: int = 1  # conversations about one image set that only point
    questions: int = 1  # Questioner conversations for one image set
    answers: int = 3  # Solver conversations for one image set
    invalid_share: float = 0.1  # of the Solver conversations explain an invalid question
    answer_noise: float = 0.9
    question_noise: float = 0.15

    def __post_init__(self) -> None:
        whole = ("steps", "naming_steps", "looking_steps", "warmup_steps")
        _require_least(self, "warm_start.", 0, *whole, "naming_weight", "matrix_lr", "peak_lr")
        _require_least(self, "warm_start.", 1, "looks", "questions", "answers")
        _require_rows(self, "warm_start.", "naming_rows", "looking_rows", "rows")
        _require_shares(self, "warm_start.", "invalid_share", "answer_noise", "question_noise")
        _require(
            self.warmup_steps < self.steps or self.steps == 0,
            f"warm_start.warmup_steps: expected fewer than steps={self.steps}, "
            f"got {self.warmup_steps}.",
        )
        _require(
            self.naming_steps <= self.looking_steps <= self.steps,
            "warm_start: expected naming_steps <= looking_steps <= steps, got "
            f"{self.naming_steps}, {self.looking_steps}, {self.steps}.",
        )


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    questioner_samples: int = 4  # questions sampled for one row (G of the Questioner)
    solver_samples: int = 8  # answers sampled for one question (G of the Solver)
    solver_prompts: int = 48  # distinct questions answered in one step; a fixed budget
    max_invalid_share: float = 0.15  # of the budget: that many invalid ones, if there are
    temperature: float = 1.0
    questioner_tokens: int = 56  # longest Questioner response
    solver_tokens: int = 40  # longest Solver response
    questioner_prompt: int = 192  # tokens that Questioner prompts are padded to, images included
    solver_prompt: int = 192  # likewise; a question too long for it is not asked
    whole_weights: bool = False  # gathered once for a rollout, not for each token: memory for speed
    prompt_bucket: int = 96  # prompts of supervised conversations are padded to a multiple of this
    reply_bucket: int = 64  # and their replies of this; every new length costs a compilation

    def __post_init__(self) -> None:
        _require(
            min(self.questioner_samples, self.solver_samples) >= 2,
            "rollout: a group needs at least 2 samples, got "
            f"questioner_samples={self.questioner_samples}, solver_samples={self.solver_samples}.",
        )
        tokens = ("questioner_tokens", "solver_tokens", "questioner_prompt", "solver_prompt")
        _require_least(self, "rollout.", 1, "solver_prompts", *tokens)
        _require_least(self, "rollout.", 1, "prompt_bucket", "reply_bucket")
        _require_least(self, "rollout.", COLDEST, "temperature")
        _require_shares(self, "rollout.", "max_invalid_share")


@dataclasses.dataclass(frozen=True)
class GrpoConfig:
    """The policy loss and its optimizer."""

    steps: int = 150
    lr: float = 4e-4
    warmup_steps: int = 5  # of a rise from 0: as elsewhere, the very first update moves nothing
    decay: Decay = "linear"  # after the warm-up: a straight line or a half cosine
    final_lr_share: float = 1.0  # of `lr` at the last step
    vision_lr_share: float = 1.0  # the vision tower's rate, in shares of `lr`; 0: it is frozen
    weight_decay: float = 0.0  # of weights; norms and biases have none
    max_grad_norm: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.3
    clip_dual: float = 3.0
    questioner_weight: float = 0.5  # weight of the Questioner's tokens in the joint loss
    normalise_std: bool = True  # False: advantages are centred only (Dr.GRPO)
    ratio: RatioLevel = "token"  # "sequence": GSPO
    aggregation: Aggregation = "token"  # of the loss over tokens; see `grpo.sequence_weights`
    kl_coefficient: float = 0.0  # of the KL to the policy that evolution began with; 0: no copy
    kl_estimator: KlEstimator = "k3"  # see `grpo.kl_penalty`
    reference_dtype: Dtype = "float32"  # of that copy; exact where the policy computes in it
    entropy_weight: float = 0.0  # of the bonus on the entropy of a token, nats
    # Prompts of one Solver update in the published order: the Questioner is updated, then the
    # Solver answers, then it is updated, part by part. 0: one joint update of both roles.
    two_pass: int = 0
    micro_batches: int = 1  # parts of a batch that are in memory one after the other
    logit_chunk: int = 0  # tokens of a reply with logits in memory at a time; 0: as many as fit

    def __post_init__(self) -> None:
        _require(self.clip_dual > 1.0, f"grpo.clip_dual: expected > 1, got {self.clip_dual}.")
        _require_shares(self, "grpo.", "final_lr_share", "clip_low")
        _require_least(self, "grpo.", 0, "steps", "warmup_steps", "two_pass", "logit_chunk")
        _require_least(self, "grpo.", 0, "lr", "vision_lr_share", "weight_decay", "clip_high")
        _require_least(self, "grpo.", 0, "questioner_weight", "kl_coefficient", "entropy_weight")
        _require_least(self, "grpo.", 0, "clip_dual")
        _require_least(self, "grpo.", 1, "micro_batches")
        _require_least(self, "grpo.", SMALLEST, "max_grad_norm")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """An adapter that self-evolution trains in place of all parameters; see `spatialevo_jax.lora`.

    The warm start stands for pretraining and moves all parameters in any case.
    """

    rank: int = 0  # 0: no adapter
    alpha: float = 16.0  # the adapter's change counts alpha / rank times
    targets: tuple[str, ...] = ("text.blocks.*",)  # patterns of the linear maps that it changes

    def __post_init__(self) -> None:
        _require_least(self, "lora.", 0, "rank", "alpha")
        _require(bool(self.targets), "lora.targets: expected at least one pattern, got none.")


@dataclasses.dataclass(frozen=True)
class SftConfig:
    """Supervised steps on a question-answer set in place of self-evolution, as many and with the
    same optimizer (`grpo.steps`, `grpo.lr`): what the same policy learns offline.
    """

    data: Path | None = None  # folder that launch.generate made; none: the policy evolves itself
    rows: tuple[int, int, int] = (8, 4, 4)  # of one step: single images, pairs, scenes
    reply: SftReply = "pointings"  # what comes before the answer in the replies to learn

    def __post_init__(self) -> None:
        _require_rows(self, "sft.", "rows")


@dataclasses.dataclass(frozen=True)
class SchedulerConfig:
    """The curriculum's prior and memory; see `spatialevo_jax.scheduler`."""

    prior_accuracy: float = 0.35
    prior_count: float = 2.0
    floor: float = 0.05  # least weight of a task
    decay: float = 0.9  # what an observation still weighs one step later
    uniform: bool = False  # no curriculum: tasks are drawn evenly, whatever is known of them
    count_invalid: bool = False  # an invalid question counts as one answered wrong
    half_is_perfect: tuple[str, ...] = ()  # tasks in which an accuracy of 0.5 counts as 1

    def __post_init__(self) -> None:
        unknown = [task for task in self.half_is_perfect if task not in TASK_IDS]
        _require(not unknown, f"scheduler.half_is_perfect: expected tasks, got {unknown}.")
        _require_shares(self, "scheduler.", "prior_accuracy", "floor", "decay")
        _require_least(self, "scheduler.", SMALLEST, "prior_count")


PUBLISHED_SCHEDULER = SchedulerConfig(
    decay=1.0,
    count_invalid=True,
    half_is_perfect=("absolute_distance", "distance_cam_obj", "room_size"),
)


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """What the Questioner's reward is made of beside form and validity; see
    `spatialevo_jax.rewards.content_factor`.
    """

    observation: Language = "pointings"  # "prose": free English, what a released model writes
    learnability: float = 0.0  # share of the content that the spread of the Solver's answers scales
    novelty: float = 0.0  # share that is divided among those who ask the same of the same images

    def __post_init__(self) -> None:
        _require_shares(self, "rewards.", "learnability", "novelty")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices of all hosts along the axes of the mesh; see `spatialevo_jax.mesh`."""

    data: int = 1  # copies of the parameters
    fsdp: int = 0  # devices that share one copy; 0: as many as the other two leave
    tensor: int = 1  # devices that share the work on each layer of the decoder

    def __post_init__(self) -> None:
        _require(
            min(self.data, self.tensor) >= 1 and self.fsdp >= 0,
            "mesh: expected data and tensor of 1 or more and fsdp of 0 or more, got "
            f"data={self.data}, fsdp={self.fsdp}, tensor={self.tensor}.",
        )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    questions_per_task: int = 40  # on held-out rooms, the same at every evaluation
    every: int = 25  # steps between evaluations during self-evolution
    batch: int = 48  # prompts decoded together

    def __post_init__(self) -> None:
        _require_least(self, "evaluation.", 1, "questions_per_task", "every", "batch")


@dataclasses.dataclass(frozen=True)
class AlarmConfig:
    """When a run says that something is wrong; see `spatialevo_jax.train.alarms`. `*_steps` are
    steps in a row: noise of single steps is no alarm.
    """

    least_valid: float = 0.1  # share of questions; random names give more in the demo
    invalid_steps: int = 20
    flat_steps: int = 10  # without any group whose rewards differ
    mean_drift: float = 0.05  # nats; rounding of bfloat16 stays below, a wrong mask does not
    most_drift: float = 1.0  # nats, of one token: sampling and update disagree e times
    most_unfinished: float = 0.5  # share of replies: most of a step's tokens earn nothing
    unfinished_steps: int = 3
    most_unreadable: float = 0.9  # share of replies
    unreadable_steps: int = 10
    least_entropy: float = 0.005  # nats a token; the groups of such a policy are copies
    entropy_steps: int = 10
    fall: float = 0.05  # of the held-out accuracy since its best; more than its standard error
    most_skipped: int = 3  # updates left out: one may be bad luck, three have a cause
    skipped_steps: int = 20  # not in a row: among so many
    idle_steps: int = 50  # without a question of a task; at its smallest chance it comes sooner

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _require(value > 0, f"alarms.{field.name}: expected > 0, got {value}.")
            _require_least(self, "alarms.", 0, field.name)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run: rooms, policy, warm start, self-evolution."""

    model: str = "tiny"  # a size, or a model folder: released, or as launch.convert writes it
    vocab_size: int = 768  # of the tokenizer that is trained for a size; a folder brings its own
    compute_dtype: Dtype | None = None  # none: the model's own; parameters are float32 in any case
    remat: Remat | None = None  # what backward passes compute again; none: the model's own
    seed: int = 0
    reward: RewardSource = "geometry"
    scoring: Scoring = "corrected"  # "published": see `spatialevo_jax.published`
    alpha: float = 0.1  # share of the format in both rewards
    rewards: RewardConfig = RewardConfig()
    data: DataConfig = DataConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    rollout: RolloutConfig = RolloutConfig()
    grpo: GrpoConfig = GrpoConfig()
    lora: LoraConfig = LoraConfig()
    sft: SftConfig = SftConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    alarms: AlarmConfig = AlarmConfig()
    mesh: MeshConfig = MeshConfig()
    checkpoint_every: int = 20  # steps; held-out scores and ends of phases make one too
    checkpoints_kept: int = 2  # the last ones; the best held-out one is kept beside them
    max_skipped: int = 5  # updates in a row that are left out as they are not finite; then it stops

    def __post_init__(self) -> None:
        whole = self.rollout.solver_prompts
        _require(
            self.grpo.two_pass == 0 or whole % self.grpo.two_pass == 0,
            f"grpo.two_pass: expected a divisor of rollout.solver_prompts={whole}, "
            f"got {self.grpo.two_pass}.",
        )
        _require(
            self.total_steps <= MOST,
            f"grpo.steps: expected at most {MOST} with those of the warm start, "
            f"got {self.total_steps}.",
        )
        shown = math.prod(self.data.image_size) // 28**2
        evolving = self.sft.data is None and self.grpo.steps > 0
        for name in ("solver_prompt", *(["questioner_prompt"] if evolving else [])):
            room = getattr(self.rollout, name)
            _require(
                shown < room,
                f"data.image_size: expected fewer visual tokens than the {room} of "
                f"rollout.{name}, got {shown} of {self.data.image_size}.",
            )
        _require(0 <= self.seed < 2**32, f"seed: expected 0 to 2**32 - 1, got {self.seed}.")
        _require_least(
            self, "", 1, "vocab_size", "max_skipped", "checkpoint_every", "checkpoints_kept"
        )
        _require(
            self.sft.data is None or (self.grpo.micro_batches == 1 and self.reward == "geometry"),
            "sft.data: expected grpo.micro_batches=1 and reward=geometry beside it, as sets are "
            "learned in whole batches and without rewards; got "
            f"{self.grpo.micro_batches} and {self.reward}.",
        )
        for name, prompts in (
            ("data.rows", sum(self.data.rows)),
            ("grpo.two_pass", self.grpo.two_pass)
            if self.grpo.two_pass
            else ("rollout.solver_prompts", self.rollout.solver_prompts),
        ):
            _require(
                prompts % self.grpo.micro_batches == 0,
                f"grpo.micro_batches: expected a divisor of the {prompts} prompts of {name}, "
                f"got {self.grpo.micro_batches}.",
            )
        _require(0.0 <= self.alpha < 1.0, f"alpha: expected a share in [0, 1), got {self.alpha}.")
        _require(
            self.scoring == "corrected" or self.alpha == 0.1,
            f"alpha: the published scoring has 0.1 and no other, got {self.alpha}.",
        )
        _require(
            self.warm_start.steps == 0 or self.rewards.observation != "prose",
            "warm_start.steps: expected 0 with rewards.observation=prose, which only a released "
            f"model writes: the warm start teaches pointings; got {self.warm_start.steps}.",
        )
        _require(
            self.reward != "vote" or self.scoring == "corrected",
            "reward: vote needs scoring=corrected; the published scoring holds answers against "
            f"geometry, got scoring={self.scoring}.",
        )
        _require(
            self.sft.data is None
            or self.rewards.observation != "prose"
            or self.sft.reply != "pointings",
            "sft.reply: expected answer or rationale with rewards.observation=prose, whose prompts "
            "do not tell of pointings; got pointings.",
        )
        extra = self.rewards.learnability > 0 or self.rewards.novelty > 0
        known = self.reward == "geometry" and self.scoring == "corrected"
        _require(
            not extra or (known and not self.grpo.two_pass),
            "rewards: learnability and novelty need the oracle's verdicts and a joint update, and "
            f"are not in the published scoring; got reward={self.reward}, scoring={self.scoring}, "
            f"grpo.two_pass={self.grpo.two_pass}.",
        )

    @property
    def total_steps(self) -> int:
        return self.warm_start.steps + self.grpo.steps
