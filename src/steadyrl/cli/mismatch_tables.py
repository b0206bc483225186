"""Results of `steadyrl mismatch` as tables for the terminal."""

from rich.box import SIMPLE
from rich.table import Table

from steadyrl.analysis.mismatch.passes import Order, Source
from steadyrl.analysis.mismatch.sources import Change, MismatchSources

ORDER_TITLES = {Order.ROUTES_LAST: "routes last", Order.ROUTES_FIRST: "routes first"}
SOURCE_TITLES = {source: source.value.replace("_", " ") for source in Source}
COMPARISONS = {Source.ROUTING: "engine, pi_old", Source.STALE_ROUTING: "pi_old, pi_theta"}


def table_of_changes(sources: MismatchSources) -> Table:
    """Every step in both orders, and the whole as it is and under replay."""
    table = _table(
        "log(pi_theta / mu_old), step by step",
        "share: covariance with the whole / variance of the whole. Shares and k1 add up along an "
        "order; the other columns do not.",
    )
    table.add_column("step")
    for name in ("share", "variance", "k1", "k3", "F(2)", "ESS"):
        table.add_column(name, justify="right")
    for order, changes in sources.orders.items():
        table.add_row(f"[bold]{ORDER_TITLES[order]}")
        for source, change in changes.items():
            table.add_row(f"  {SOURCE_TITLES[source]}", *_numbers(change))
    table.add_row("[bold]whole", *_numbers(sources.whole))
    for replay, change in sources.replayed.items():
        table.add_row(f"[bold]whole under {replay.upper()}", *_numbers(change))
    return table


def _numbers(change: Change) -> tuple[str, ...]:
    return (
        "-" if change.share is None else f"{change.share:z.1%}",
        f"{change.variance:.1e}",
        f"{change.kl_k1:.1e}",
        f"{change.kl_k3:.1e}",
        f"{change.extreme_token_fraction:.2%}",
        f"{change.ess:.3f}",
    )


def table_of_flips(sources: MismatchSources) -> Table:
    """Every MoE layer, for both pairs of routes."""
    table = _table(
        "expert choices that differ, by layer",
        "margin: median gap between the router logits of the last expert that pi_old chose and the "
        "first it rejected. in closest tenth: of the choices that differ, those among the tenth of "
        "all choices with the smallest margins.",
    )
    table.add_column("between")
    for name in ("layer", "differ", "margin there", "margin elsewhere", "in closest tenth"):
        table.add_column(name, justify="right")
    for source, layers in sources.flips.items():
        for layer, flips in enumerate(layers):
            share = flips.in_closest_tenth
            table.add_row(
                COMPARISONS[source] if layer == 0 else "",
                str(layer),
                f"{flips.share:.2%}",
                _median(flips.margins_flipped),
                _median(flips.margins_kept),
                "-" if share is None else f"{share:.0%}",
            )
    return table


def _median(quantiles: tuple[float, ...] | None) -> str:
    return "-" if quantiles is None else f"{quantiles[1]:.3f}"


def _table(title: str, caption: str) -> Table:
    return Table(
        box=SIMPLE,
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
    )
