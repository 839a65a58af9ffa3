"""How the rules ask: counters whose first value counts, shares that small numbers do not make large."""

from textwrap import indent

from grafana.rules.clock import Clock

NEGATIVE = "invalid|not_verified|undelivered|failed|bounced|refused|expired"
# `read` is left out: a message that was delivered and then read would count twice.
FINAL = f"delivered|{NEGATIVE}"

# Every process of the receiver tells it, at every scrape.
SCRAPED = "receiver_build_info"

# 1.96 standard deviations: the true share lies beyond the bound in one case of forty.
_Z = 1.96
_Z2 = round(_Z * _Z, 4)


def grown(clock: Clock, selector: str, window: str) -> str:
    """By how much the counters of `selector` have grown in `window`.

    A counter that is first scraped with a value has no increase() until its second change, so a whole burst can pass
    unseen. A series that was born under our eyes counts with its value: it was not there when the window began, and its
    process was scraped more often in it than the series was seen. So neither a Prometheus that was away, or is new,
    nor a process that was out of reach makes the whole life of a counter news.
    """
    metric, width = selector.partition("{")[0], clock.range(window)
    return f"""\
  {selector}
    unless {metric} offset {width}
    and
  count_over_time({selector}[{width}])
    < on (job, instance) group_left ()
  sum by (job, instance) (count_over_time({SCRAPED}[{width}]))
or
  increase({selector}[{width}])"""


def grown_with_births(clock: Clock, selector: str, window: str, *, ago: str = "", witness: str = "") -> str:
    """The same of a `window` that ended `ago`, where every newborn series counts, also those of a new process.

    `witness`, unless empty, must have been there when the window began: some series that shows that we looked.
    """
    metric = selector.partition("{")[0]
    begin = clock.before(window, ago) if ago else clock.range(window)
    shift = f" offset {clock.range(ago)}" if ago else ""
    guard = f"\n    and on () {witness} offset {begin}" if witness else ""
    return f"""\
  {selector}{shift}
    unless {metric} offset {begin}{guard}
or
  increase({selector}[{clock.range(window)}]{shift})"""


def total(by: str, expr: str) -> str:
    """The sum of a longer expression, by labels."""
    head = f"sum by ({by})" if by else "sum"
    return f"{head} (\n{indent(expr, '  ')}\n)"


def at_least(part: str, whole: str) -> str:
    """The least share of `part` in `whole` that such numbers allow: Wilson's lower bound. Both are names of series."""
    return _bound(part, whole, "-")


def at_most(part: str, whole: str) -> str:
    """The largest share that such numbers allow: Wilson's upper bound."""
    return _bound(part, whole, "+")


def _bound(part: str, whole: str, sign: str) -> str:
    spread = f"{_Z} * sqrt({part} * ({whole} - {part}) / {whole} + {_Z2 / 4:g})"
    return f"({part} + {_Z2 / 2:g} {sign} {spread}) / ({whole} + {_Z2})"
