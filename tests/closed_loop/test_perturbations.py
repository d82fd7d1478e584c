"""Perturbations without a simulator: how they are written, drawn and applied to pictures and texts."""

import numpy as np
import pytest

from lamp_model.closed_loop.benchmarks import SUITES
from lamp_model.closed_loop.container import suite_config
from lamp_model.closed_loop.protocol import Protocol
from lamp_model.closed_loop.simulation.perturbations.perturber import Perturber
from lamp_model.closed_loop.simulation.perturbations.pictures import blurred, noisy
from lamp_model.closed_loop.simulation.perturbations.places import carried
from lamp_model.closed_loop.simulation.perturbations.sentences import paraphrases
from lamp_model.closed_loop.simulation.perturbations.spec import (
    AXES,
    Perturbation,
    chance,
    direction,
    episode_seed,
    parse,
)


def test_perturbations_are_written_as_axis_and_strength():
    assert parse(["noise:2", "camera"]) == (Perturbation("camera", 1.0), Perturbation("noise", 2.0))
    assert parse([str(one) for one in parse(["noise:2", "camera"])]) == parse(["camera:1", "noise:2.0"])


@pytest.mark.parametrize(("word", "said"), [
    ("wind:1", "one of camera, light"), ("camera:0", "must lie above 0"), ("camera:nan", "must lie above 0"),
    ("light:much", "'much' is no strength"), ("light:", "'' is no strength"),
])  # fmt: skip
def test_a_wrong_word_is_refused_with_what_would_be_right(word, said):
    with pytest.raises(ValueError, match=said):
        parse([word])


def test_an_axis_stands_once():
    with pytest.raises(ValueError, match="names camera twice"):
        parse(["camera:1", "light:1", "camera:2"])


def test_each_axis_draws_by_itself():
    """Otherwise a second perturbation would change what the first one does."""
    drawn = {axis: chance(5, axis).random() for axis in AXES}
    assert len(set(drawn.values())) == len(AXES)
    assert drawn["light"] == chance(5, "light").random()
    assert np.isclose(np.linalg.norm(direction(chance(5, "light"), 4)), 1)


def test_episodes_draw_differently():
    seeds = {episode_seed(0, task, episode) for task in range(10) for episode in range(50)}
    assert len(seeds) == 500 and all(0 <= seed < 2**32 for seed in seeds)
    assert episode_seed(1, 0, 0) != episode_seed(0, 0, 0)


def test_noise_has_its_strength_and_no_bias():
    grey = np.full((64, 64, 3), 128, np.uint8)
    for strength in (1.0, 2.0):
        seen = noisy(grey, strength, chance(0, "noise")).astype(float)
        assert abs(seen.mean() - 128) < 0.5
        assert abs(seen.std() - 6 * strength) < 0.5


def test_a_blur_keeps_the_sum_and_spreads_a_point():
    point = np.zeros((21, 21, 3))
    point[10, 10] = 1.0
    seen = blurred(point, 1.5)
    assert np.isclose(seen[..., 0].sum(), 1)
    assert np.isclose((seen[..., 0].sum(axis=0) * (np.arange(21) - 10) ** 2).sum(), 1.5**2, rtol=0.05)


@pytest.mark.parametrize("kind", ["near", "far"])
@pytest.mark.parametrize("said", [
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "put the wine bottle on top of the cabinet", "open the middle drawer of the cabinet", "turn on the stove",
    "push the plate to the front of the stove", "open the top drawer and put the bowl inside", "lift the red cube",
])  # fmt: skip
def test_every_kind_of_instruction_has_paraphrases(said, kind):
    found = paraphrases(said, kind)
    assert len(found) == len(set(found)) > 1 and said not in found
    assert all("{" not in text and said.split()[-1] in text for text in found)


def test_without_perturbations_nothing_changes():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    perturber = Perturber((), 0)
    assert perturber.picture(picture) is picture and perturber.instruction("go") == "go" and perturber.drawn == {}


def test_a_seed_gives_the_same_words_and_says_them():
    perturber = Perturber(parse(["language:1"]), 3)
    said = perturber.instruction("turn on the stove")
    assert said == Perturber(parse(["language:1", "noise:1"]), 3).instruction("turn on the stove")
    assert perturber.drawn == {"language": {"strength": 1.0, "instruction": said}}


def test_only_our_own_libero_takes_perturbations():
    protocol = Protocol(perturb=("camera:1",), perturb_seed=4)
    taken = SUITES["libero_object"].arguments(protocol)
    assert (taken["perturb"], taken["perturb_seed"]) == (("camera:1",), 4)
    assert protocol.departures == "perturb camera:1, perturb_seed 4"
    assert protocol.differences(Protocol()) == "perturb camera:1 against none, perturb_seed 4 against 0"
    with pytest.raises(ValueError, match="does not take perturbations"):
        SUITES["simpler_widowx_stack_cube"].arguments(protocol)
    plain = suite_config(SUITES["libero_object"], Protocol(), 1, "ws://x", "cpu")
    assert not {"perturb", "perturb_seed", "picture_size"} & set(plain["benchmarks"][0]["params"])


def test_what_stands_on_an_object_moves_with_it():
    """As LIBERO's files say it: a bowl on a box on the table, another in the cabinet's drawer."""
    begin = [
        ["on", "box_1", "main_table_box_region"], ["on", "bowl_1", "box_1"], ["in", "bowl_2", "cabinet_1_top_region"],
        ["on", "basket_1", "floor_bin_region"], ["open", "cabinet_1_top_region"],
    ]  # fmt: skip
    assert carried(["bowl_1", "bowl_2", "box_1", "basket_1"], begin) == {"box_1": ["bowl_1"], "basket_1": []}
