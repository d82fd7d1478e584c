"""Cuts are found, and what is no cut is left alone."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.flow_sources import tracked
from pipeline.vision.scene_cuts import changes, check_cuts
from schemas.episode import BadEpisode

CLIPS = Path(__file__).parents[3] / "shared/samples/bridge_clips"
WORLD = moving_card(frames=12, size=(96, 80))
FRAMES = WORLD.frames()


def test_a_cut_is_named_with_its_frame():
    spliced = np.concatenate([FRAMES[:7], FRAMES[7:, ::-1, ::-1]])
    with pytest.raises(BadEpisode, match="frame 7 shows another picture than frame 6") as error:
        check_cuts("camera", spliced, 0.3)
    assert error.value.code == "scene_cut"


def test_a_moving_camera_a_flash_a_change_of_light_and_a_flat_frame_are_no_cuts():
    check_cuts("camera", FRAMES, 0.3)
    check_cuts("camera", (FRAMES * np.where(np.arange(12) > 5, 0.5, 1)[:, None, None, None]).astype(np.uint8), 0.3)
    flash = FRAMES.copy()
    flash[6] = 255 - flash[6]
    check_cuts("camera", flash, 0.3)
    flash[6] = 255
    check_cuts("camera", flash, 0.3)


def test_change_is_0_for_the_same_picture_and_2_for_its_negative():
    np.testing.assert_allclose(changes(np.stack([FRAMES[0], FRAMES[0], 255 - FRAMES[0]])), [0, 2], atol=1e-3)


def test_a_level_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match=r"tracked\.cut_level must lie between 0 and 2"):
        tracked.Config(cut_level=0.0)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the Bridge clips are not here")
def test_real_clips_have_no_cut_and_two_of_them_in_a_row_do():
    import av

    clips = []
    for path in sorted(CLIPS.glob("*.mp4"))[:3]:
        with av.open(str(path)) as container:
            clips.append(np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)][:16]))
        check_cuts(path.name, clips[-1], 0.3)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        with pytest.raises(BadEpisode, match="frame 16 shows another picture"):
            check_cuts("spliced", np.concatenate([clips[one], clips[other]]), 0.3)
