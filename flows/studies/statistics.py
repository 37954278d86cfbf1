"""What may be said of differences between variants, and how sure it is. SciPy computes; the rule stands here.

Every comparison of a variant with the baseline, in every deciding metric, is one of a family. Three promises hold for the family
as a whole, at most 5 % each way, whatever the number of comparisons and of looks:

- A variant that does not differ is called better or worse: Holm's procedure.
- A stated interval does not hold the true difference: Student intervals at Bonferroni's level.
- Looking again with more seeds costs nothing more: the 5 % are shared out among the looks that the study's file announces.

Bonferroni's inequality needs neither normal looks nor known correlations, so both hold for a handful of seeds as well. The one
assumption is Student's: values over seeds are roughly normal. Welch's test comes near its level where spreads differ: with three
seeds a side and spreads of one to eight, a study of seven variants gives twice the promised alarms; with five it keeps to them.

One run against one, as the quality gate and `gan versions compare` have it, is the same test with a spread that was measured
before: Student's distribution for one that a study has measured, the normal one for what is known.
"""

import math
import statistics
from dataclasses import dataclass

ERROR_RATE = 0.05  # of a whole study
POWER = 0.9  # with which `gan study plan` promises to find a difference
_MOST_SEEDS = 100_000
_SHARES = 200  # points at which a distribution is averaged
_ROUNDING = 1e-12  # values that differ by less of themselves are the same
_LARGEST_MARGIN = 37.0  # standard deviations of a normal distribution; beyond it no floating-point number holds the tail


@dataclass(frozen=True)
class Rule:
    """How a study is judged; all of it is fixed before its first run."""

    metrics: dict  # name -> flows.studies.params.Metric
    looks: tuple[int, ...]  # numbers of seeds at which it is judged, ascending
    paired: bool
    variants: tuple[str, ...]  # without the baseline

    @property
    def comparisons(self):
        """How many there are."""
        return len(self.variants) * len(self.metrics)

    @property
    def look_rate(self):
        """The error rate that one look may spend."""
        return ERROR_RATE / len(self.looks)

    @property
    def interval_rate(self):
        """The error rate of one comparison's interval at one look."""
        return self.look_rate / self.comparisons


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval."""

    count: int
    mean: float
    deviation: float | None  # standard deviation over seeds; None with a single one
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """One variant against the baseline, in one metric."""

    variant: str
    metric: str
    verdict: str  # "better", "worse", "same" (no difference that matters), "undecided", or "pending": runs are missing
    seeds: int  # of each side, when it was judged; when pending, runs that are missing
    difference: float | None = None  # mean of the variant minus mean of the baseline
    low: float | None = None  # the simultaneous 95 % interval of the difference; None where neither side varies
    high: float | None = None
    p_value: float | None = None  # adjusted for all comparisons and looks
    deviations: tuple[float, float] | None = (
        None  # over seeds, of the variant and the baseline; of pairs, half their variance each
    )


def estimate(values):
    """The Estimate of a list of numbers."""
    from scipy import stats

    values = [float(value) for value in values]
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(len(values), mean, None, None, None)
    deviation = statistics.stdev(values)
    if _constant(values):
        return Estimate(len(values), mean, deviation, None, None)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(1 - ERROR_RATE)
    return Estimate(len(values), mean, deviation, float(interval.low), float(interval.high))


def compare(values, others, *, rate, paired):
    """(differences of means, lows, highs, p values), float64 [n] each, with the intervals at 1 - `rate`.

    values, others: float64 [n, seeds]; a row is one comparison. Welch's test, or Student's on the differences of pairs.
    All but the difference are NaN in a row where no value differs from another on either side: then the numbers say nothing of
    how much they would vary.
    """
    import numpy as np
    from scipy import stats

    values, others = np.asarray(values, float), np.asarray(others, float)
    low, high, p_value = (np.full(len(values), np.nan) for _ in range(3))
    sides = [values - others] if paired else [values, others]
    sizes = np.abs(values).max(axis=1) + np.abs(others).max(axis=1)
    varied = np.any([np.ptp(side, axis=1) > _ROUNDING * sizes for side in sides], axis=0)
    if varied.any():
        if paired:
            test = stats.ttest_rel(values[varied], others[varied], axis=1)
        else:
            test = stats.ttest_ind(values[varied], others[varied], axis=1, equal_var=False)
        low[varied], high[varied] = test.confidence_interval(1 - rate)
        p_value[varied] = test.pvalue
    return values.mean(axis=1) - others.mean(axis=1), low, high, p_value


@dataclass(frozen=True)
class Deviation:
    """How far a number moves by chance, one standard deviation, and how well that is known."""

    size: float
    freedom: float = math.inf  # degrees of freedom with which it was measured; infinite where it is known


def together(deviations):
    """The Deviation of a sum of independent numbers with these Deviations; Welch's and Satterthwaite's degrees of freedom."""
    size = math.hypot(*(one.size for one in deviations))
    if size == 0:
        return Deviation(0.0)
    # shares of the variance, since fourth powers leave the range of floating-point numbers
    uncertain = math.fsum((one.size / size) ** 4 / one.freedom for one in deviations)
    return Deviation(size, 1 / uncertain if uncertain else math.inf)


def rate_of(margin):
    """The error rate of a two-sided test that allows `margin` standard deviations of a normal distribution."""
    return math.erfc(min(margin, _LARGEST_MARGIN) / math.sqrt(2))


def p_value_of(difference, deviation):
    """Two-sided p value of a difference of two single numbers, which moves by the Deviation if nothing differs."""
    from scipy import special  # not scipy.stats, which takes a second to import

    if deviation.size == 0:
        return float(difference == 0)
    return float(2 * special.stdtr(deviation.freedom, -abs(difference) / deviation.size))


def explained(deviation, rate):
    """The largest difference that chance explains at the error rate `rate`: half the width of the interval at 1 - rate."""
    from scipy import special

    return float(-special.stdtrit(deviation.freedom, rate / 2) * deviation.size) + 0.0


def explained_together(differences, rate):
    """Key -> (the largest difference that chance explains, adjusted p value), of differences that are looked at together.

    differences: key -> (difference, Deviation). In at most `rate` of all cases in which nothing differs is any of them larger
    than what chance explains: Holm's procedure.
    """
    p_values = {key: p_value_of(*one) for key, one in differences.items()}
    adjusted = holm(p_values)
    tested = sum(p_value <= rate for p_value in adjusted.values())
    found = {}
    for number, key in enumerate(sorted(p_values, key=p_values.get)):
        others = len(p_values) - min(number, tested)  # after the first that shows nothing all are held to its level
        found[key] = explained(differences[key][1], rate / others), adjusted[key]
    return found


def correlation(values, baseline):
    """Pearson's correlation of two variants over their common seeds, or None: what pairing by seed would gain."""
    from scipy import stats

    if len(values) < 3 or _constant(values) or _constant(baseline):
        return None
    return float(stats.pearsonr(values, baseline).statistic)


def judge(samples, baseline, rule):
    """A Comparison for each variant and metric, in the rule's order.

    samples: variant -> metric -> its values in the order of seeds, as far as there are runs without a gap.
    baseline: the same, metric -> values.
    A comparison that was decided at one look stays as it was decided, and its variant needs no further seeds for it. What a
    look has shown still counts when a later one decides of others, and lets Holm's procedure through to it: then it is that look
    which says better or worse, and by how much. One whose runs are missing is pending, and counts for the others as one that
    shows nothing.
    """
    family = [(variant, metric) for variant in rule.variants for metric in rule.metrics]
    found, p_values, shown = {}, dict.fromkeys(family, 1.0), {}
    for count in rule.looks:
        open_ones = [
            (variant, metric)
            for variant, metric in family
            if not _decided(found.get((variant, metric))) and min(len(samples[variant][metric]), len(baseline[metric])) >= count
        ]
        if not open_ones:
            continue
        sides = [(samples[variant][metric][:count], baseline[metric][:count]) for variant, metric in open_ones]
        looked = list(zip(*compare(*zip(*sides, strict=True), rate=rule.interval_rate, paired=rule.paired), strict=True))
        looked = dict(zip(open_ones, zip(sides, looked, strict=True), strict=True))
        for key, (_, (*_, p_value)) in looked.items():
            if p_value * len(rule.looks) < p_values[key]:  # never of NaN
                p_values[key], shown[key] = float(p_value) * len(rule.looks), looked[key]
        adjusted = holm(p_values)
        for key in open_ones:
            found[key] = _comparison(key, *(shown if adjusted[key] <= ERROR_RATE else looked)[key], adjusted[key], rule)
    return [found.get(key) or _pending(key, samples, baseline, rule) for key in family]


def sentence(comparison, rule):
    """What a Comparison says, in words without a subject, such as "better by 0.021 to 0.034"."""
    goal = rule.metrics[comparison.metric]
    if comparison.verdict == "pending":
        return pending_sentence(comparison.seeds)
    if comparison.low is None:
        them = "no pair of runs" if rule.paired else "no run"
        return f"undecided: {them} differs from another, so nobody knows how much they vary"
    worst, best = (-comparison.high, -comparison.low) if goal.better == "lower" else (comparison.low, comparison.high)
    digits = decimals(best - worst)
    if comparison.verdict == "same":
        return f"no difference larger than {_up(max(-worst, best), digits):.{digits}f}"
    if comparison.verdict == "undecided":
        more = more_seeds(comparison, rule)
        advice = "no reasonable number of seeds would decide"
        if more is not None:
            advice = f"about {more} more {'seed' if more == 1 else 'seeds'} would decide"
        return f"undecided, between {_side(worst, digits)} and {_side(best, digits)}: {advice}"
    least, most = (worst, best) if comparison.verdict == "better" else (-best, -worst)
    text = f"{comparison.verdict} by {least:.{digits}f} to {most:.{digits}f}"
    if least <= 0:
        text = f"{comparison.verdict}, by {most:.{digits}f} at most"
    return text + (f", less than the {goal.smallest_difference:g} that matters" if most < goal.smallest_difference else "")


def pending_sentence(missing):
    """What is said where a number of runs is `missing`."""
    return f"no verdict yet: {missing} {'run is' if missing == 1 else 'runs are'} missing"


def worst_sentence(values, metric, rule):
    """What the worst of `values`, one a run, says of all runs with these parameters, in words without a subject."""
    goal = rule.metrics[metric]
    worst = (max if goal.better == "lower" else min)(values)
    share = 100 * share_beyond(len(values), ERROR_RATE / len(rule.metrics))
    return f"{worst:.4g} at worst of {len(values)} runs; at most {_up(share, 1):.1f} % of all runs are worse than that"


def share_beyond(count, rate):
    """The largest share of all runs that may be worse than the worst of `count`, in [0, 1]; wrong with probability `rate`.

    If a share s is worse, none of `count` runs is with probability (1 - s)^count, whatever the distribution: Wilks' one-sided
    tolerance limit (1941, Annals of Mathematical Statistics 12).
    """
    return 1 - rate ** (1 / count)


def more_seeds(comparison, rule):
    """About how many more seeds decide an undecided Comparison; None if beyond reason.

    Difference and deviations are taken to stay as measured. Decided is a difference whose interval leaves out zero, or lies
    within the smallest difference that matters.
    """
    from scipy import stats

    size = abs(comparison.difference)
    wanted = max(size, rule.metrics[comparison.metric].smallest_difference - size)  # what half the interval may be
    one, other = comparison.deviations

    def narrow(count):
        if rule.paired:
            p_value = 2 * stats.t.sf(wanted / math.hypot(one, other) * math.sqrt(count), count - 1)
        else:
            p_value = stats.ttest_ind_from_stats(wanted, one, count, 0.0, other, count, equal_var=False).pvalue
        return p_value <= rule.interval_rate

    enough = _smallest(narrow, comparison.seeds + 1)
    return None if enough is None else enough - comparison.seeds


def holm(p_values):
    """Key -> Holm's adjusted p of a dict of p values."""
    ordered = sorted(p_values, key=p_values.get)
    adjusted, highest = {}, 0.0
    for number, key in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - number) * p_values[key]))
        adjusted[key] = highest
    return adjusted


def power(difference, deviation, seeds, rate, *, paired=False):
    """The probability that two sides of `seeds` runs each, both with this deviation, show a true `difference` at `rate`.

    With equal true deviations Welch's statistic is a noncentral t of 2 (seeds - 1) degrees of freedom, and its critical value
    depends on the two sides' shares of the measured variance, which follow a beta distribution independent of it.
    """
    import numpy as np
    from scipy import stats

    single, shift = seeds - 1, difference / (deviation * math.sqrt(2 / seeds))
    if paired:
        freedom, assumed = single, np.array([single])
    else:
        share = stats.beta.ppf((np.arange(_SHARES) + 0.5) / _SHARES, single / 2, single / 2)
        freedom, assumed = 2 * single, single / (share**2 + (1 - share) ** 2)
    # t squared is F with one degree of freedom; SciPy's noncentral F, unlike its noncentral t, is defined for large shifts
    return float(stats.ncf.sf(stats.t.isf(rate / 2, assumed) ** 2, 1, freedom, shift**2).mean())


def seeds_for(difference, deviation, rate, *, paired=False):
    """The smallest number of seeds a side that finds a true `difference` with probability POWER; None if beyond reason."""
    return _smallest(lambda seeds: power(difference, deviation, seeds, rate, paired=paired) >= POWER, 2)


def found_with(seeds, deviation, rate, *, paired=False):
    """The smallest true difference that `seeds` runs a side find with probability POWER."""
    from scipy import optimize

    def lacking(spreads):
        return power(spreads, 1.0, seeds, rate, paired=paired) - POWER

    return deviation * float(optimize.brentq(lacking, 1e-6, 1e3))


def _comparison(key, side, measured, p_value, rule):
    (values, others), (difference, low, high, own_p) = side, map(float, measured)
    goal = rule.metrics[key[1]]
    verdict = "undecided"
    if math.isnan(own_p):
        low = high = p_value = None
    else:
        if p_value <= ERROR_RATE:
            verdict = "better" if (difference < 0) == (goal.better == "lower") else "worse"
        elif -goal.smallest_difference < low and high < goal.smallest_difference:
            verdict = "same"
    deviations = statistics.stdev(values), statistics.stdev(others)
    if rule.paired:
        pairs = statistics.stdev(one - other for one, other in zip(values, others, strict=True))
        deviations = (pairs / math.sqrt(2),) * 2
    return Comparison(*key, verdict, len(values), difference, low, high, p_value, deviations)


def _pending(key, samples, baseline, rule):
    variant, metric = key
    missing = sum(max(0, rule.looks[0] - len(values)) for values in (samples[variant][metric], baseline[metric]))
    return Comparison(variant, metric, "pending", missing)


def _decided(comparison):
    return comparison is not None and comparison.verdict in ("better", "worse", "same")


def _smallest(holds, first):
    """The smallest whole number from `first` on for which the monotone `holds` is true; None if beyond reason."""
    low, high = first - 1, first
    while not holds(high):
        low, high = high, 2 * high
        if high > _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _constant(values):
    return max(values) - min(values) <= _ROUNDING * max(map(abs, values))


def decimals(width):
    """Digits after the point that show an interval of this width by two digits."""
    return max(0, 1 - math.floor(math.log10(width))) if width > 0 else 3


def _up(value, decimals):
    return math.ceil(value * 10**decimals) / 10**decimals


def _side(gain, decimals):
    return f"{abs(gain):.{decimals}f} {'better' if gain > 0 else 'worse'}"
