"""The page of an evaluation: rates beside the paper's, and the episodes' videos."""

from collections.abc import Sequence
from pathlib import Path

from lamp_model.closed_loop.results import EpisodeResult, Evaluation
from lamp_model.closed_loop.summary import Rate, Summary
from pipeline.inspection.table import Table
from pipeline.inspection_page.markup import content_hash, numbers_table, rows_list, text
from pipeline.inspection_page.style import STYLE
from schemas.files import write_whole

VIDEOS = ".videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 18px; }\n" + (
    "video { width: 100%; border-radius: 8px; } figure { margin: 0; } figcaption { font-size: 12.5px; }\n"
)
LEGEND = (
    "The lines over a video are the paths that the policy imagined when it last looked, for points that it expected to "
    "move; a dot is where such a point was to be by now. Orange comes towards the camera, blue goes away from it, "
    "white stays at its distance."
)


def write_page(path: Path, evaluation: Evaluation, summary: Summary, results: Sequence[EpisodeResult]) -> None:
    """Write the page whole. Videos stay files beside it.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, page(evaluation, summary, results).encode())


def page(evaluation: Evaluation, summary: Summary, results: Sequence[EpisodeResult]) -> str:
    """The page. It runs no script; every text that comes from data is escaped."""
    style = STYLE + VIDEOS
    policy = f"default-src 'none'; media-src 'self' file:; style-src '{content_hash(style)}'; base-uri 'none'"
    title = f"{evaluation.policy.source} in closed loop"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n<h1>{text(title)}</h1>\n"
        + "\n".join(_sections(evaluation, summary, results))
        + "\n</main>\n</body>\n</html>\n"
    )


def _sections(evaluation: Evaluation, summary: Summary, results: Sequence[EpisodeResult]) -> list[str]:
    protocol = evaluation.protocol
    said = {
        "policy": f"{evaluation.policy.source} ({evaluation.policy.digest})",
        "seeds": f"environment {protocol.environment_seed}, noise {protocol.seed} and the episode's number",
        "settling steps": protocol.settle_steps,
        "actions of a chunk carried out": "all" if protocol.execute is None else protocol.execute,
        "limit of an episode": f"{protocol.max_steps} steps" if protocol.max_steps else "the benchmark's own",
        "not as published": protocol.departures or "nothing",
        "seconds an episode": summary.seconds.get("total", "-"),
    }
    whole = [one.whole for one in summary.suites] + list(summary.groups)
    rows = rows_list([(name, str(value)) for name, value in said.items()])
    sections = [f"<div class='panel'>{rows}{_table('Success', whole)}</div>"]
    sections += [
        f"<details class='section'><summary><h2>{text(one.suite)} by task</h2></summary>"
        f"<div class='panel'>{_table(one.suite, one.tasks)}</div></details>"
        for one in summary.suites
    ]
    for name, wanted in (("Failures", False), ("Successes", True)):
        shown = [result for result in results if result.video and result.success is wanted]
        if shown:
            sections.append(
                f"<details class='section' open><summary><h2>{name} ({len(shown)} shown)</h2></summary>"
                f"<p class='where'>{text(LEGEND)}</p><div class='videos'>{''.join(map(_figure, shown))}</div></details>"
            )
    if errors := [result for result in results if result.error]:
        named = [(f"{r.suite}, task {r.task}, episode {r.episode}", str(r.error)) for r in errors]
        sections.append(
            "<details class='section' open><summary><h2>No outcome</h2></summary>"
            f"<div class='panel'>{rows_list(named)}</div></details>"
        )
    return sections


def _table(title: str, rates: Sequence[Rate]) -> str:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}%"

    rows = [
        [
            rate.name,
            f"{rate.successes}/{rate.episodes}",
            percent(rate.percent),
            "-" if rate.interval is None else f"{rate.interval[0]:.1f} to {rate.interval[1]:.1f}%",
            percent(rate.paper),
            f"{rate.lifted}/{rate.looked_at}" if rate.looked_at else "-",
            str(rate.errors or ""),
        ]
        for rate in rates
    ]
    columns = ["", "episodes", "success", "95% interval", "paper", "lifted", "no outcome"]
    return numbers_table(Table(title, columns, rows))


def _figure(result: EpisodeResult) -> str:
    caption = (
        f"{result.suite}, task {result.task}, initial state {result.episode}: {result.told} ({result.steps} steps)"
    )
    return (
        f"<figure><video controls preload='metadata' src='{text(result.video)}'></video>"
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )
