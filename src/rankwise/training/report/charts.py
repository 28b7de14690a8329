"""The charts of a run: loss, score, learning rate and gradient norm by step, and its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from rankwise.pages.chart import Chart
from rankwise.pages.drawing import End, end_labels, escaped, figure_of, line_of, span_of, trace_of
from rankwise.pages.palette import PALETTE
from rankwise.pages.writing import listed
from rankwise.training.records import RunRecord

TRAINING, VALIDATION = "training", "validation"
COLOURS = {TRAINING: PALETTE[0], VALIDATION: PALETTE[1]}
Points = list[tuple[float, float]]
Lines = dict[str, Points]
MOST_MARKED = 60  # points of a line, or their marks would run into one another
_ROW = 22


def losses(run: RunRecord) -> Lines:
    """Return the loss of training, by logged step or else by epoch, and that of validation."""
    of_training: Points = [(point.step, point.loss) for point in run.steps]
    if not of_training:
        of_training = _known([(point.step, point.train_loss) for point in run.curve])
    of_validation: Points = [(point.step, point.validation_loss) for point in run.curve]
    return {TRAINING: of_training, VALIDATION: of_validation}


def scores(run: RunRecord) -> Lines:
    """Return the score on validation by step."""
    return {VALIDATION: [(point.step, point.validation_score) for point in run.curve]}


def learning_rates(run: RunRecord) -> Lines:
    """Return the learning rate by logged step."""
    return {TRAINING: [(point.step, point.learning_rate) for point in run.steps]}


def gradient_norms(run: RunRecord) -> Lines:
    """Return the norm of the gradient by logged step."""
    return {TRAINING: _known([(point.step, point.gradient_norm) for point in run.steps])}


def relative_norms(run: RunRecord) -> Lines:
    """Return ‖ΔW‖/‖W‖ by step."""
    return {TRAINING: _known([(each.step, each.relative_norm) for each in run.diagnostics])}


def captured_shares(run: RunRecord) -> Lines:
    """Return the share of a batch's gradient that the adapter follows, by step."""
    return {TRAINING: _known([(each.step, each.captured_share) for each in run.diagnostics])}


def shares_by_layer(run: RunRecord) -> Lines:
    """Return by layer the captured share before and after the initialization."""
    layers = run.init.layers if run.init is not None else ()
    return {
        "before": _known([(each.captured_before, i) for i, each in enumerate(layers)]),
        "after": _known([(each.captured_after, i) for i, each in enumerate(layers)]),
    }


def norms_by_layer(run: RunRecord) -> Lines:
    """Return by layer ‖ΔW₀‖/‖W‖ after the initialization."""
    layers = run.init.layers if run.init is not None else ()
    return {"after": [(each.relative_strength, i) for i, each in enumerate(layers)]}


def _known(points: Sequence[tuple[float | None, float | None]]) -> Points:
    return [(x, y) for x, y in points if x is not None and y is not None]


def _over_steps(id: str, title: str, note: str, read: Callable[[RunRecord], Lines]) -> Chart:
    def draw(run: RunRecord, _view: str | None) -> go.Figure:
        lines = {name: points for name, points in read(run).items() if points}
        # From zero: a constant is drawn as one, and a small change as small.
        span = span_of([0.0, *(y for points in lines.values() for _, y in points)])
        last = max((x for points in lines.values() for x, _ in points), default=1.0) or 1.0
        hover = "%{y:.4g} at step %{x}"
        traces = [
            line_of(
                name, each, colour=COLOURS[name], hover=hover, is_marked=len(each) < MOST_MARKED
            )
            for name, each in lines.items()
        ]
        ends = [End(name, name, name, COLOURS[name], each[-1]) for name, each in lines.items()]
        traces += end_labels(ends, x=1.03 * last, span=span)
        axis = {"title": {"text": "training step"}, "range": [0, 1.03 * last]}
        return figure_of(traces, x_axis=axis, y_title="", span=span)

    def tell(run: RunRecord, _view: str | None) -> str:
        return listed(
            [
                f"{name}: {points[0][1]:.4g} at step {points[0][0]:g}, {points[-1][1]:.4g} at "
                f"step {points[-1][0]:g}"
                for name, points in read(run).items()
                if points
            ]
        )

    return Chart(id, title, lambda _: note, draw, tell, is_shown=lambda run: _has_any(read(run)))


def _by_layer(id: str, title: str, note: str, read: Callable[[RunRecord], Lines]) -> Chart:
    def draw(run: RunRecord, _view: str | None) -> go.Figure:
        assert run.init is not None  # or it is not shown
        names = [each.name for each in run.init.layers]
        traces = [_marks(name, points) for name, points in read(run).items() if points]
        figure = figure_of(traces, x_axis={"rangemode": "tozero"}, y_title="", span=(0, 1))
        return figure.update_layout(
            margin={"l": 24, "r": 24, "t": 12},
            height=84 + _ROW * len(names),
            yaxis={
                "range": [len(names) - 0.4, -0.6],
                "tickvals": list(range(len(names))),
                "ticktext": [f"{escaped(name)}  " for name in names],
                "automargin": True,
            },
        )

    def tell(run: RunRecord, _view: str | None) -> str:
        assert run.init is not None  # or it is not shown
        names = [each.name for each in run.init.layers]
        return listed(
            [
                f"{names[int(i)]}: {value:.4g} {moment}"
                for moment, points in read(run).items()
                for value, i in points
            ]
        )

    return Chart(id, title, lambda _: note, draw, tell, is_shown=lambda run: _has_any(read(run)))


def _has_any(lines: Lines) -> bool:
    return any(lines.values())


def _marks(moment: str, points: Points) -> go.Scatter:
    # Open before the initialization, filled after it; of neither line is one highlighted.
    symbol = "circle-open" if moment == "before" else "circle"
    return trace_of(
        TRAINING,
        moment,
        "layers",
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="markers",
        marker={"color": COLOURS[TRAINING], "size": 9, "symbol": symbol, "line": {"width": 2}},
        hovertemplate=f"%{{x:.4g}} {moment}",
    )


CHARTS: tuple[Chart[RunRecord], ...] = (
    _over_steps(
        "loss",
        "Loss",
        "Of training, a mean since the point before, and of all validation rows.",
        losses,
    ),
    _over_steps("score", "Validation score", "After each evaluation; step 0 is the start.", scores),
    _over_steps("learning-rate", "Learning rate", "Of the logged steps.", learning_rates),
    _over_steps(
        "gradient-norm",
        "Gradient norm",
        "Over all that trains, before clipping, at the logged steps.",
        gradient_norms,
    ),
    _over_steps(
        "relative-norm",
        "How far the weights move: ‖ΔW‖ / ‖W‖",
        "Over all adapted weights.",
        relative_norms,
    ),
    _over_steps(
        "captured-share",
        "How much of the gradient is captured",
        "The share of one batch's squared gradient that what trains follows at first order.",
        captured_shares,
    ),
    _by_layer(
        "layer-shares",
        "Captured share by layer",
        "Of the first batch's gradient: open before the initialization, filled after it.",
        shares_by_layer,
    ),
    _by_layer(
        "layer-norms",
        "How far each layer begins from the base: ‖ΔW₀‖ / ‖W‖",
        "After the initialization.",
        norms_by_layer,
    ),
)
