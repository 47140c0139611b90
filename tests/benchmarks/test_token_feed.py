"""What is timed reads the same new tokens whoever it is, and only its steps are timed."""

import math

import numpy as np
import torch

from knowcap_benchmarks.cases import CASES
from knowcap_benchmarks.token_feed import WARM_UP_STEPS, Feed, random_tokens

CASE = CASES["replicates-16"]
CPU = torch.device("cpu")


def windows(num_models: int, number: int) -> torch.Tensor:
    feed = Feed(CASE, num_models, CPU, check_steps=0, seconds=math.inf)
    return torch.stack([tokens for tokens, _ in zip(feed, range(number), strict=False)])


def test_a_model_reads_the_same_however_many_others_there_are() -> None:
    alone, together = windows(1, 4), windows(3, 4)
    assert alone.shape == (4, 1, CASE.num_windows, CASE.seq_length + 1)
    assert torch.equal(alone[:, 0], together[:, 0])
    assert not torch.equal(together[:, 0], together[:, 1])


def test_no_step_reads_what_an_earlier_one_did() -> None:
    steps = windows(1, 4)
    assert not any(torch.equal(steps[0], later) for later in steps[1:])


def test_every_second_token_follows_from_the_one_before() -> None:
    tokens = random_tokens(np.random.default_rng(0), (50, 17), 261)
    follows = {
        (a, b) for row in tokens.tolist() for a, b in zip(row[0::2], row[1::2], strict=False)
    }
    assert len(follows) == len({a for a, _ in follows}) > 100
    assert tokens.min() >= 0
    assert tokens.max() < 261


def test_the_first_steps_are_not_timed_and_their_losses_are_noted() -> None:
    feed = Feed(CASE, 1, CPU, check_steps=5, seconds=0)
    number = 0
    for _ in feed:
        feed.note(torch.tensor(float(number)))
        number += 1
    assert number == 5 + WARM_UP_STEPS
    assert len(feed.step_s) == WARM_UP_STEPS
    assert feed.losses == (0.0, 4.0)


def test_speed_is_that_of_the_median_step_for_all_models() -> None:
    feed = Feed(CASE, 8, CPU, check_steps=0, seconds=0)
    feed.step_s = [0.5, 9.0, 0.1]
    assert feed.tokens_per_s == 8 * 128 / 0.5
