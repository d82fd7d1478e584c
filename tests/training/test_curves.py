"""The picture of a run's curves."""

from lamp_model.training.metrics import figure_of


def test_no_legend_covers_a_curve():
    """Both stages' figures: each legend lies outside of every plot, and inside the picture."""
    motion = {"still_px_moving": 10.0, "probe_px_moving": 5.0}
    of_motion = [
        {"step": step, "loss": 1 / (step + 1), "val_loss": 1 / (step + 1), **motion, "first_px_moving": step / 20}
        | {"rollout_px_moving": 10 - step / 20}
        for step in range(0, 200, 20)
    ]
    of_actions = [{"step": 0, "loss": 1.0, "action_error": 0.5, "mean_action_error": 0.4}]
    for lines in (of_motion, of_actions):
        figure = figure_of(lines, "a run")
        figure.draw_without_rendering()
        legends = [axis.get_legend().get_window_extent() for axis in figure.axes]
        for legend in legends:
            assert not any(legend.overlaps(axis.get_window_extent()) for axis in figure.axes)
            assert figure.bbox.x0 <= legend.x0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= figure.bbox.y0
        assert len(legends) == 2 and not legends[0].overlaps(legends[1])
