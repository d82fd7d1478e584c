"""The sample codec: error bounds, round trip, size, and refusal of what it cannot hold."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.triplet import make_triplet, same
from hypothesis import given
from hypothesis import strategies as st

from schemas.sample_codec import decode_triplet, encode_triplet
from schemas.sample_metadata import CorruptSample
from schemas.scene_flow import SceneFlow
from schemas.triplet import frame_in_key, triplet_key


def decoded(triplet):
    return decode_triplet(triplet.key, encode_triplet(triplet))


@given(st.integers(0, 10_000), st.booleans(), st.booleans(), st.floats(0.01, 8))
def test_positions_come_back_within_their_bounds_and_all_else_exactly(seed, moving_camera, wrist, noise):
    triplet = make_triplet(seed, moving_camera=moving_camera, wrist=wrist, noise_px=noise, grid=6)
    back = decoded(triplet)
    error = np.abs(back.flow.uvz - triplet.flow.uvz)[triplet.flow.valid] * [*triplet.camera.size, 1]
    # half a quantum, and the rounding of float32 itself
    assert error[:, :2].max() <= 0.02 + 2e-5 and error[:, 2].max() <= 0.05e-3 + 5e-7
    assert same(replace(back, flow=triplet.flow), triplet)
    assert same(back.flow.visible, triplet.flow.visible) and same(back.flow.valid, triplet.flow.valid)


def test_what_is_read_is_written_again_to_the_same_bytes():
    members = encode_triplet(make_triplet(3))
    again = encode_triplet(decode_triplet("k", members))
    assert {n: again[n] for n in members if n != "json"} == {n: members[n] for n in members if n != "json"}


def test_a_still_point_is_exactly_still():
    triplet = make_triplet(1)
    still = np.ptp(triplet.flow.uvz, axis=1).max(-1) == 0
    assert still.sum() > 100
    assert (np.ptp(decoded(triplet).flow.uvz[still], axis=1) == 0).all()


def test_a_position_that_is_not_valid_repeats_the_last_valid_one():
    triplet = make_triplet(2)
    valid = triplet.flow.valid.copy()
    valid[0] = True
    valid[0, 5:8] = False
    back = decoded(replace(triplet, flow=SceneFlow(triplet.flow.uvz, triplet.flow.visible, valid)))
    np.testing.assert_array_equal(back.flow.uvz[0, 5:8], np.repeat(back.flow.uvz[0, 4:5], 3, axis=0))


def test_a_noisy_sample_stays_under_30_kb_without_its_pictures():
    members = encode_triplet(make_triplet(5, noise_px=0.5))
    size = sum(len(v) for n, v in members.items() if not n.endswith(".jpg"))
    assert size < 30_000


def test_an_unusable_start_does_not_spoil_the_sample():
    triplet = make_triplet(4)
    uvz, valid = triplet.flow.uvz.copy(), triplet.flow.valid.copy()
    uvz[7], valid[7] = np.nan, False
    back = decoded(replace(triplet, flow=SceneFlow(uvz, triplet.flow.visible, valid)))
    assert np.isfinite(back.flow.uvz).all() and not back.flow.valid[7].any()


def test_a_displacement_beyond_16_bits_is_refused_and_never_wraps():
    triplet = make_triplet(6)
    uvz = triplet.flow.uvz.copy()
    uvz[0, 3:, 2] += 4.0
    valid = np.ones_like(triplet.flow.valid)
    with pytest.raises(ValueError, match="too large for the format"):
        encode_triplet(replace(triplet, flow=SceneFlow(uvz, valid, valid)))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("state", np.array([1.0, np.nan], np.float32), "state holds a value that is not finite"),
        ("point_flags", np.zeros(3, np.uint8), "point_flags must have shape"),
        ("images", {"wrist": b"\xff\xd8"}, "no picture with the role 'image'"),
        ("images", {"image": b"GIF89a"}, "JPEG or PNG"),
        ("action_mask", np.ones(3, bool), "action_mask must have shape"),
    ],
)
def test_the_door_refuses_by_name(field, value, says):
    triplet = make_triplet(0, grid=4)
    object.__setattr__(triplet, field, value)  # past the annotations, which production does not check
    with pytest.raises(ValueError, match=says):
        encode_triplet(triplet)


def test_damage_is_corruption_and_not_a_crash():
    members = encode_triplet(make_triplet(0, grid=4))
    for name in members:
        if name.endswith((".jpg",)):
            continue
        for bad in (b"", members[name][:-3], b"\0" * 40):
            with pytest.raises(CorruptSample):
                decode_triplet("k", {**members, name: bad})
    for name in ("json", "flow.blosc", "actions.npy"):
        with pytest.raises(CorruptSample, match=name):
            decode_triplet("k", {n: v for n, v in members.items() if n != name})


def test_a_giant_declared_size_is_refused_before_anything_is_allocated():
    members = encode_triplet(make_triplet(0, grid=4))
    header = bytearray(members["flow.blosc"])
    header[4:8] = (2**31 - 1).to_bytes(4, "little")
    with pytest.raises(CorruptSample, match="does not hold"):
        decode_triplet("k", {**members, "flow.blosc": bytes(header)})


def test_a_pickled_array_is_refused(tmp_path):
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    members = encode_triplet(make_triplet(0, grid=4))
    with pytest.raises(CorruptSample):
        decode_triplet("k", {**members, "actions.npy": buffer.getvalue()})


@pytest.mark.parametrize("camera", ["agentview", "hand-left.0", "ext/1"])
def test_a_key_tells_its_frame(camera):
    assert frame_in_key(triplet_key("0f3a", camera, 42)) == 42
    assert frame_in_key(triplet_key("0f3a", camera, 1_234_567)) == 1_234_567
