"""`make runs`: one page with every run on this machine, beside each other and with links to their own pages."""

import os
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from components.core.files import write_whole
from components.core.report import Report
from pipeline.local_store import HOME
from pipeline.run_record import State
from pipeline.runs_list import PAGES, RUNS_PAGE, ListedRun, list_runs, shown_time

_STATES = {State.RUNNING: "Going on", State.FAILED: "Failed", State.INTERRUPTED: "Interrupted"}
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
# The bundle's fields that say what the parameters came to.
_RESOLVED = ("backbone", "image_size", "epochs", "batch_size", "learning_rate")


def show_runs(home: Path = HOME) -> None:
    """Write the page, open it where somebody sits before a screen, and print where it is. Raises UserError."""
    page = write_runs_page(home)
    print(page)
    if sys.stdout.isatty() and (sys.platform == "darwin" or any(os.environ.get(name) for name in _SCREENS)):
        webbrowser.open(page.resolve().as_uri())


def write_runs_page(home: Path) -> Path:
    """Write `home`/runs.html. Raises UserError when there are no runs yet."""
    runs = list_runs(home)
    report = Report(
        "Runs",
        f"{len(runs):,} in {home.resolve()}, newest first, as of {shown_time(datetime.now(UTC))}.",
    )
    report.add(_RUNS, runs=[_row(run) for run in runs])
    page = home / RUNS_PAGE
    write_whole(page, report.html())
    # Pages of a run link to ../runs.html, which is the page itself from latest/, and this from runs/<run>/.
    write_whole(home / "runs" / RUNS_PAGE, _REDIRECT)
    return page


@dataclass(frozen=True)
class _Row:
    """A run in words."""

    when: str
    took: str
    command: str
    data: str
    parameters: list[tuple[str, object]]
    figures: list[tuple[str, str]]
    accuracy: tuple[float, float, float, float] | None  # low, itself, high, baseline; in percent
    state: str
    kind: str  # a class of the page's style
    reason: str
    links: list[tuple[str, str]]


def _row(run: ListedRun) -> _Row:
    figures = run.verdict.figures if run.verdict else None
    state, kind, reason = _ended(run)
    low, high = figures.accuracy_ci95 if figures else (0.0, 0.0)
    return _Row(
        when=shown_time(run.when) if run.when else run.name,
        took=run.took,
        command=run.record.command if run.record else "",
        data=_data(run),
        parameters=list(_parameters(run)),
        figures=list(_figures(run)),
        accuracy=(100 * low, 100 * figures.accuracy, 100 * high, 100 * figures.baseline_accuracy) if figures else None,
        state=state,
        kind=kind,
        reason=reason,
        links=[(PAGES.get(name, name), f"runs/{quote(run.name)}/{name}") for name in run.pages],
    )


def _ended(run: ListedRun) -> tuple[str, str, str]:
    """State, its class, and the reason."""
    reason = " ".join(run.problems)
    if run.state in _STATES:
        told = run.record.reason if run.record else ""
        if run.state == State.INTERRUPTED and run.record and run.record.ended is None:
            told = "Killed, or the machine went down: it could write nothing any more."
        return _STATES[run.state], run.state, told
    if run.verdict is None:
        return "Unreadable" if run.when else "No run", "unreadable", reason
    words = "Deployed" if run.verdict.passed else "Not deployed"
    if run.verdict.forced:
        words += ", forced"
    return words, "passed" if run.verdict.passed else "kept", f"{run.verdict.reason} {reason}".strip()


def _data(run: ListedRun) -> str:
    if run.record:
        return run.record.data
    return "not known: made before runs kept a record" if run.verdict else ""


def _parameters(run: ListedRun) -> Iterator[tuple[str, object]]:
    if run.record:
        yield from ((name.upper(), value) for name, value in run.record.parameters.items())
    if run.info:
        if not run.record:
            yield from (("RECIPE", run.info.recipe), ("SEED", run.info.seed))
        yield from (
            (f"used: {name.replace('_', ' ')}", value)
            for name in _RESOLVED
            if (value := run.info.recipe_fields.get(name)) is not None
        )


def _figures(run: ListedRun) -> Iterator[tuple[str, str]]:
    if run.info:
        yield "trained on", f"{run.info.training_images:,} bins"
    if run.verdict:
        figures = run.verdict.figures
        yield "judged on", f"{figures.n_test:,} bins"
        yield "within one", f"{figures.within_one:.1%}"
        yield "RMSE", f"{figures.rmse:.2f}"
        yield "version", run.verdict.version
    if run.metrics:
        yield "calibration error", f"{run.metrics.ece:.3f}"


_RUNS = """
<style>
body { max-width: 90rem }
.runs th, .runs td { padding: .8rem 1.1rem .8rem 0; font-weight: 400 }
.runs thead th { font-size: .9rem; color: var(--quiet); padding-bottom: .3rem }
.runs strong, .runs time { font-weight: 600 }
.runs .what { min-width: 14rem; max-width: 26rem }
.runs .data { min-width: 9rem; max-width: 16rem; overflow-wrap: anywhere }
.runs .verdict { min-width: 12rem; max-width: 22rem; overflow-wrap: anywhere }
.runs .quiet, .runs dt { color: var(--quiet) }
.runs a { display: inline-block; min-height: 1.6rem; margin-right: .8rem }
.runs summary { cursor: pointer; color: var(--quiet); font-size: .9rem }
.runs dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .7rem; margin: 0; font-size: .9rem }
.runs dd { margin: 0; overflow-wrap: anywhere }
.runs .figures dt, .runs .figures dd { white-space: nowrap }
.runs .pages { min-width: 7rem }
.runs caption { max-width: 60rem }
.runs .large { font-size: 1.3rem }
.runs svg { display: block; width: 10rem; height: 1rem; margin: .2rem 0 }
.state { display: inline-block; border-radius: .3rem; padding: .05rem .5rem; background: var(--tile); font-weight: 600 }
.passed { color: light-dark(#116329, #6fd08c) } .kept { color: light-dark(#7a4b00, #e2b061) }
.failed, .unreadable { color: light-dark(#a31621, #ff9b94) }
@media (max-width: 48rem) {
  .runs thead { display: none }
  .runs, .runs tbody, .runs tr, .runs th, .runs td { display: block; max-width: none; border: 0; padding: .2rem 0 }
  .runs caption { display: block }
  .runs tr { border-bottom: 1px solid var(--line); padding: .8rem 0 }
}
</style>
<p>Each run was judged on its own test bins: with other data, or another SEED, these are other bins, and figures can
differ by that alone. Where two intervals overlap widely, a difference may be chance. Results stay until you remove
them: <code>make prune RUNS=20 REMOVE=1</code> keeps the newest 20. <code>make runs</code> writes this page anew.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Runs, newest first"><table class="runs">
  <caption>The bar is the 95 % interval of the accuracy, its mark the accuracy, the line across what always answering
  the commonest count gets; the bar's ends are 0 and 100 %.</caption>
  <thead><tr>{% for name in ("run", "pages", "data, parameters", "accuracy", "figures", "verdict") %}
  <th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for run in runs %}
  <tr>
    <th scope="row" class="what"><time>{{ run.when }}</time>
      {% if run.took %}<span class="quiet">took {{ run.took }}</span>{% endif %}
      {% if run.command %}<br><code>{{ run.command }}</code>{% endif %}
    </th>
    <td class="pages">{% for name, place in run.links %}<a href="{{ place }}">{{ name }}</a>
    {% endfor %}</td>
    <td class="data">{{ run.data }}
      {% if run.parameters %}<details><summary>all parameters</summary><dl>
      {% for name, value in run.parameters %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
      {% endfor %}</dl></details>{% endif %}
    </td>
    <td>{% if run.accuracy %}{% set low, itself, high, baseline = run.accuracy %}
      <strong class="large">{{ "%.1f" | format(itself) }} %</strong>
      <svg viewBox="0 0 160 16" aria-hidden="true"><g fill="currentColor">
        <rect y="7" width="160" height="2" opacity=".25"/>
        <rect x="{{ 1.6 * low }}" y="4" width="{{ 1.6 * (high - low) }}" height="8" opacity=".45"/>
        <rect x="{{ 1.6 * itself - 1.5 }}" y="1" width="3" height="14"/></g>
        <rect x="{{ 1.6 * baseline - 1 }}" width="2" height="16" fill="#e0782f"/></svg>
      <span class="quiet">{{ "%.1f to %.1f" | format(low, high) }} %,<br>
      baseline {{ "%.1f" | format(baseline) }} %</span>
    {% endif %}</td>
    <td class="figures"><dl>{% for name, value in run.figures %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
    {% endfor %}</dl></td>
    <td class="verdict"><span class="state {{ run.kind }}">{{ run.state }}</span><br>{{ run.reason }}</td>
  </tr>
  {% endfor %}
  </tbody>
</table></div>
"""

_REDIRECT = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Runs</title>
<meta http-equiv="refresh" content="0; url=../{RUNS_PAGE}"></head>
<body><p><a href="../{RUNS_PAGE}">Every run</a></p></body></html>
"""
