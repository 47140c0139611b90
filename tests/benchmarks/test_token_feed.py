"""Random training tokens: equal for all implementations, new in each step, timed after warm-up."""

import math

import numpy as np
import torch

from knowcap_benchmarks.cases import CASES
from knowcap_benchmarks.token_feed import WARM_UP_STEPS, TokenFeed, random_tokens

CASE = CASES["replicates-16"]
CPU = torch.device("cpu")


def windows(num_models: int, number: int) -> torch.Tensor:
    feed = TokenFeed(CASE, num_models, CPU, check_steps=0, seconds=math.inf)
    return torch.stack([tokens for tokens, _ in zip(feed, range(number), strict=False)])


def test_tokens_of_a_model_do_not_depend_on_the_number_of_models() -> None:
    one_model, three_models = windows(1, 4), windows(3, 4)
    assert one_model.shape == (4, 1, CASE.num_windows, CASE.seq_length + 1)
    assert torch.equal(one_model[:, 0], three_models[:, 0])
    assert not torch.equal(three_models[:, 0], three_models[:, 1])


def test_each_step_has_new_tokens() -> None:
    steps = windows(1, 4)
    assert not any(torch.equal(steps[0], later) for later in steps[1:])


def test_every_second_token_follows_from_its_predecessor() -> None:
    tokens = random_tokens(np.random.default_rng(0), (50, 17), 261)
    successors = {
        (a, b) for row in tokens.tolist() for a, b in zip(row[0::2], row[1::2], strict=False)
    }
    assert len(successors) == len({a for a, _ in successors}) > 100
    assert tokens.min() >= 0
    assert tokens.max() < 261


def test_the_first_steps_are_untimed_and_their_losses_recorded() -> None:
    feed = TokenFeed(CASE, 1, CPU, check_steps=5, seconds=0)
    number = 0
    for _ in feed:
        feed.record_loss(torch.tensor(float(number)))
        number += 1
    assert number == 5 + WARM_UP_STEPS
    assert len(feed.step_s) == WARM_UP_STEPS
    assert feed.losses == (0.0, 4.0)


def test_speed_is_of_the_median_step_and_all_models() -> None:
    feed = TokenFeed(CASE, 8, CPU, check_steps=0, seconds=0)
    feed.step_s = [0.5, 9.0, 0.1]
    assert feed.tokens_per_s == 8 * 128 / 0.5
