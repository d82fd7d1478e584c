"""Sessions and batches: an answer depends on its own session and on nothing else."""

from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.policy import observed, policy, predicted

from lamp_model.observation import Observation
from lamp_model.policy import LampPolicy
from lamp_model.serving.metrics import Metrics, prometheus
from lamp_model.serving.service import Busy, Ending, PolicyService

ROUNDING = 2e-5
"""Of actions up to 4, in float32; another seed, picture or text moves them by more than a hundred times as much."""


@contextmanager
def gathering(made, rows, **options):
    """A service that runs nothing until so many rows wait, and then all of them together."""
    with PolicyService(made, max_batch=rows, wait_ms=60_000, **options) as service, ExitStack() as clients:
        for _ in range(rows):
            clients.enter_context(service.client())
        yield service


@pytest.mark.parametrize("padding", ["masked", "repeat"])
def test_an_answer_does_not_depend_on_who_else_is_in_the_batch(padding):
    made = policy(padding=padding)
    with gathering(made, 6) as service:
        futures = [service.session(seed).submit(observed(seed)) for seed in range(6)]
        answers = [future.result()[0].actions for future in futures]
        sizes = service.values()["batch_sizes"]
    assert sizes == ({6: 1} if padding == "masked" else {2: 3}), "texts of three lengths"
    for seed, answer in enumerate(answers):
        np.testing.assert_allclose(answer, predicted(made, observed(seed), seed), atol=ROUNDING)
    others = [predicted(made, observed(0), 1), predicted(made, replace(observed(0), instruction="push"), 0)]
    assert all(np.abs(other - answers[0]).max() > 100 * ROUNDING for other in others)


def test_pictures_of_other_sizes_go_apart_and_are_answered_alike():
    made = policy()
    with gathering(made, 3) as service:
        seen = [observed(0), observed(1, size=32), observed(2)]
        futures = [service.session(5).submit(one) for one in seen]
        for future, one in zip(futures, seen, strict=True):
            np.testing.assert_allclose(future.result()[0].actions, predicted(made, one, 5), atol=ROUNDING)
        assert service.values()["batch_sizes"] == {1: 1, 2: 1}


def test_a_sessions_random_stream_goes_on_from_call_to_call_and_is_its_own():
    made = policy()
    with PolicyService(made) as service:
        mine, other = service.session(3), service.session(3)
        first = mine.act(observed(0)).actions
        second = mine.act(observed(0)).actions
        np.testing.assert_array_equal(other.act(observed(0)).actions, first)
    np.testing.assert_array_equal(first, predicted(made, observed(0), 3))
    np.testing.assert_array_equal(second, predicted(made, observed(0), 3, calls=2))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"instruction": ""}, "the instruction is empty"),
        ({"instruction": "open " * 600}, "the instruction is too long"),
        ({"state": np.full(8, np.nan)}, "not finite in float32: number 0 is nan"),
        ({"state": [0.0] * 7}, "the state must be 8 numbers, found an array of shape"),
        ({"images": observed(0).images[:1]}, r"looks at 2 images \(image, wrist\), found 1"),
    ],
)
def test_what_is_refused_leaves_the_random_stream_where_it_is(wrong, says):
    made = policy()
    with PolicyService(made) as service:
        session = service.session(3)
        with pytest.raises(ValueError, match=says):
            session.act(replace(observed(0), **wrong))
        np.testing.assert_array_equal(session.act(observed(0)).actions, predicted(made, observed(0), 3))
        assert service.values()["refused"] == {"invalid": 1}


def test_a_request_that_is_no_longer_wanted_is_not_run():
    made = policy()
    with gathering(made, 2) as service:
        session = service.session(3)
        gone = session.submit(observed(0))
        assert gone.cancel()
        answer = session.submit(observed(1)).result()[0]
        np.testing.assert_array_equal(answer.actions, predicted(made, observed(1), 3))
        assert gone.cancelled() and service.values()["refused"] == {"cancelled": 1}
        with pytest.raises(CancelledError):
            gone.result()


def test_only_so_many_wait_and_closing_answers_them():
    made = policy()
    with ExitStack() as closing:
        service = closing.enter_context(gathering(made, 3, max_waiting=2))
        session = service.session(0)
        waiting = [session.submit(observed(0)) for _ in range(2)]
        with pytest.raises(Busy, match="2 requests wait already"):
            session.submit(observed(0))
        assert not any(future.done() for future in waiting)
        service.close()
        assert all(len(future.result()) == 1 for future in waiting)
        with pytest.raises(Ending, match="takes no more requests"):
            session.submit(observed(0))


class Breaks(LampPolicy):
    """A policy that breaks down over one text."""

    def predict_batch(self, seen, noise, wanted):
        if any(row.instruction == "push" for row in seen):
            raise RuntimeError("out of memory")
        return super().predict_batch(seen, noise, wanted)


def test_one_request_that_fails_does_not_fail_those_beside_it():
    sound = policy()
    broken = Breaks(sound.model, sound.state_range, sound.action_range)
    with gathering(broken, 3) as service:
        futures = [service.session(seed).submit(observed(seed)) for seed in range(3)]
        with pytest.raises(RuntimeError, match="out of memory"):
            futures[2].result()
        for seed in range(2):
            found = futures[seed].result()[0].actions
            np.testing.assert_array_equal(found, predicted(sound, observed(seed), seed))
        assert service.values()["refused"] == {"failed": 1}


def test_the_rows_of_one_request_share_a_generator_and_may_be_more_than_a_batch():
    """Motion noise of all rows first, then action noise: so a row is not what it is alone, as with the authors."""
    made = policy()
    seen = [observed(number) for number in range(3)]
    with PolicyService(made, max_batch=2) as service:
        rows = service.submit(seen, torch.Generator().manual_seed(4), "first-step").result()
        assert service.values()["batch_sizes"] == {1: 1, 2: 1}
    generator = torch.Generator().manual_seed(4)
    motion = made.model.motion_noise(3, generator)
    action = made.model.action_noise(3, generator)
    from lamp_model.prediction import Noise

    again = made.predict_batch([made.prepare(one) for one in seen], Noise(motion, action), ["whole"] * 3)
    for row, expected in zip(rows, again, strict=True):
        np.testing.assert_allclose(row.actions, expected.actions, atol=ROUNDING)
        assert row.motion.shape == expected.motion.shape == (400, 32, 3)
        assert np.abs(row.motion - expected.motion.numpy()).max() > 0.01, "one step is not the whole motion"


def test_a_policy_without_motion_has_none_to_return():
    with PolicyService(policy(guided=False)) as service:
        assert service.session(0).act(observed(0)).motion is None
        with pytest.raises(ValueError, match="no motion to return"):
            service.session(0).act(observed(0), return_motion=True)


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"wait_ms": -1.0}, {"max_waiting": 0}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must lie between [01] and 65536"):
        PolicyService(policy(), **wrong)


def test_measurements_are_percentiles_and_counts():
    metrics = Metrics()
    for hundredth in range(1, 101):
        metrics.answered(hundredth / 100)
    metrics.ran(3)
    metrics.ran(1)
    metrics.refused("busy")
    values = metrics.values(sessions=2, waiting=1)
    assert values["latency_seconds"]["p50"] == pytest.approx(0.505) and values["answers"] == 100
    text = prometheus(values)
    assert 'lamp_answer_seconds{quantile="0.5"} 0.505\n' in text and "lamp_answer_seconds_count 100\n" in text
    assert 'lamp_batch_rows_bucket{le="1"} 1\n' in text and 'lamp_batch_rows_bucket{le="+Inf"} 2\n' in text
    assert "lamp_batch_rows_sum 4\n" in text and 'lamp_refused_total{why="busy"} 1\n' in text
    empty = Metrics().values(0, 0)
    assert empty["latency_seconds"] == {"p50": None, "p95": None, "p99": None} and "quantile" not in prometheus(empty)


def test_an_observation_is_not_changed():
    made = policy(image_orientation="mirrored")
    seen = observed(0)
    before = Observation([image.copy() for image in seen.images], seen.instruction, np.array(seen.state))
    with PolicyService(made) as service:
        service.session(0).act(seen)
    assert all(np.array_equal(a, b) for a, b in zip(seen.images, before.images, strict=True))
    assert np.array_equal(seen.state, before.state)
