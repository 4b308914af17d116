"""One step's thresholds with those of all other steps fixed: exact optima by sorted scans.

Thresholds change a result only where they pass an observed score. So the images that reach a step are sorted by their
scores, and cumulative sums of what each choice would give (exit, or go on with a patch of size k) yield the credit
and the cost of every value of a threshold at once.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from agents.evaluation.threshold_search import between

_LEAST_GAIN = 1e-6  # of an image; less is rounding

Segments = list[tuple[int, int]]
"""The sizes whose intervals are not empty, each with the cut where its interval ends, in ascending order."""


class ScoreIntervals:
    """The thresholds of one step, and what they are worth.

    Args:
        scores: (M,) of the images that reach the step.
        credit: (K + 1, M) what the image counts in the end if the next patch has size k, or, last, if it exits: 1 for a
            right prediction and 0 for a wrong one, or between.
        cost: (K + 1, M) the multiply-adds that the image costs then.
        credit_before: what those that exited before count together.
        cost_before: what those that exited before cost together.
    """

    def __init__(
        self,
        scores: np.ndarray,
        credit: np.ndarray,
        cost: np.ndarray,
        credit_before: float = 0.0,
        cost_before: float = 0.0,
    ) -> None:
        order = np.argsort(scores)  # cuts lie between different scores: the order of equal ones does not matter
        ranked = scores[order].astype(np.float64)
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
        self._highest = ranked[ends]  # score below each cut but the first; a cut lies between two different scores
        inner = between(self._highest[:-1], ranked[ends[:-1] + 1])
        self._thresholds = np.concatenate([[-np.inf], inner, [np.inf] * (len(ends) > 0)])
        self._credit, self._cost = (_cumulative(values[:, order], ends) for values in (credit, cost))
        self._credit_before, self._cost_before = credit_before, cost_before
        self._exit = len(credit) - 1

    def at_price(self, price: float, thresholds: np.ndarray) -> np.ndarray:
        """The best thresholds if every multiply-add costs a fraction of an image's credit: all K of them at once.

        A dynamic programme over sets of sizes: the best way to divide the scores below a cut among the sizes of a set
        ends with the interval of one of them, and the others divide what is below.

        Args:
            price: credit that one multiply-add is worth, 0 or more.
            thresholds: (K,) to keep unless others are better.

        Returns:
            (K,) thresholds; -inf for sizes that are not used.
        """
        segments = self._best_segments(price)
        (credit, cost), (credit_now, cost_now) = (self._totals(at) for at in (segments, self._as_segments(thresholds)))
        gained = (credit - credit_now) - price * (cost - cost_now)
        return self._as_thresholds(segments) if gained > _LEAST_GAIN else thresholds

    def totals_at_price(self, price: float) -> tuple[float, float]:
        """Credit and cost, of all images together, with the best thresholds at a price; see `at_price`."""
        return self._totals(self._best_segments(price))

    def _best_segments(self, price: float) -> Segments:
        value = self._credit - price * self._cost
        nothing = np.full(value.shape[1], -np.inf)
        nothing[0] = 0.0
        best: dict[tuple[int, ...], np.ndarray] = {(): nothing}
        for sizes in (
            chosen for count in range(1, self._exit + 1) for chosen in combinations(range(self._exit), count)
        ):
            ways = ((value[last], best[_without(sizes, last)]) for last in sizes)
            best[sizes] = np.maximum.reduce([gain + np.maximum.accumulate(below - gain) for gain, below in ways])
        left, segments = tuple(range(self._exit)), Segments()
        end = int(np.argmax(best[left] - value[-1]))
        while end > 0:
            margins = {last: (best[_without(left, last)] - value[last])[: end + 1] for last in left}
            last = max(left, key=lambda size: margins[size].max() + value[size][end])
            start = int(np.argmax(margins[last]))
            if start < end:
                segments.insert(0, (last, end))
            left, end = _without(left, last), start
        return segments

    def within(self, limit: float, thresholds: np.ndarray) -> np.ndarray:
        """Coordinate ascent: moves one threshold after another to its best value until none improves the result.

        Better is, in this order: to cost no more than the limit; more credit, or less cost as long as the limit
        is exceeded; less cost.

        Args:
            limit: of the cost of all images together.
            thresholds: (K,) to start from.

        Returns:
            (K,) thresholds, at least as good.
        """
        segments = start = self._as_segments(thresholds)
        while True:
            moved = [self._scan(size, segments, limit) for size in range(self._exit)]
            best = max(moved, key=lambda found: self._worth(found, limit))
            if self._worth(best, limit) <= self._worth(segments, limit):
                break
            segments = best
        return thresholds if segments == start else self._as_thresholds(segments)

    def _scan(self, size: int, segments: Segments, limit: float) -> Segments:
        """The best interval for a size: all cuts at which it may end, those of the other sizes fixed."""
        others = [segment for segment in segments if segment[0] != size]
        credit, cost = self._totals(others)
        gain, price = self._credit[size], self._cost[size]
        counts, costs = np.full(len(gain), credit), np.full(len(price), cost)
        start = 0
        for owner, end in [*others, (self._exit, len(gain) - 1)]:
            here = slice(start + 1, end + 1)
            counts[here] += (gain[here] - gain[start]) - (self._credit[owner, here] - self._credit[owner, start])
            costs[here] += (price[here] - price[start]) - (self._cost[owner, here] - self._cost[owner, start])
            start = end
        fits = np.flatnonzero(costs <= limit)
        if len(fits):
            most = fits[counts[fits] == counts[fits].max()]
            cut = int(most[np.argmin(costs[most])])
        else:
            cut = int(np.argmin(costs))
        moved = [segment for segment in others if segment[1] != cut]
        return sorted([*moved, (size, cut)] if cut else others, key=lambda segment: segment[1])

    def _worth(self, segments: Segments, limit: float) -> tuple[bool, float, float]:
        credit, cost = self._totals(segments)
        return (True, credit, -cost) if cost <= limit else (False, -cost, credit)

    def _totals(self, segments: Segments) -> tuple[float, float]:
        """Credit and cost of all images together."""
        credit, cost, start = self._credit_before, self._cost_before, 0
        for size, end in [*segments, (self._exit, self._credit.shape[1] - 1)]:
            credit += self._credit[size, end] - self._credit[size, start]
            cost += self._cost[size, end] - self._cost[size, start]
            start = end
        return credit, cost

    def _as_segments(self, thresholds: np.ndarray) -> Segments:
        cuts = np.searchsorted(self._highest, thresholds, side="right")
        segments = Segments()
        for size in np.argsort(thresholds, kind="stable"):
            if cuts[size] > (segments[-1][1] if segments else 0):
                segments.append((int(size), int(cuts[size])))
        return segments

    def _as_thresholds(self, segments: Segments) -> np.ndarray:
        thresholds = np.full(self._exit, -np.inf)
        for size, cut in segments:
            thresholds[size] = self._thresholds[cut]
        return thresholds


def _cumulative(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(K + 1, cuts) sums of the values below each cut."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1, dtype=np.float64)[:, ends]], axis=1)


def _without(sizes: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(other for other in sizes if other != size)
