"""How often does the 95% interval of an AUC hold the true one?

    python -m benchmarks.coverage --n_draws 2000

Data sets are drawn whose AUC is known, of several sizes and kinds: normal scores, of equal spread
and of twice the spread in one class, and exponential ones, whose tail reaches into the other class.
Each cell is the share of data sets whose interval holds the true AUC, and the mean width.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import pandas as pd
from scipy.special import ndtri

from t4e_utils.metrics.intervals import auc_interval
from t4e_utils.tables.run import versions

AUCS = (0.5, 0.6, 0.8, 0.9, 0.95, 0.99)
SIZES = ((10, 10), (5, 15), (15, 5), (24, 24), (12, 36), (100, 100), (30, 170))  # of both classes


def normal(generator, auc, n_positive, n_negative, *, spread=1.0):
    """Draw normal scores; positives have `spread` times the standard deviation of negatives."""
    shift = ndtri(auc) * np.hypot(1, spread)
    return generator.normal(shift, spread, n_positive), generator.normal(size=n_negative)


def exponential(generator, auc, n_positive, n_negative):
    """Draw exponential scores, P(positive > negative) = r / (1 + r) for the ratio r of means."""
    positive = generator.exponential(auc / (1 - auc), n_positive)
    return positive, generator.exponential(1, n_negative)


def wide(generator, auc, n_positive, n_negative):
    """Draw normal scores, twice as wide in the positive class."""
    return normal(generator, auc, n_positive, n_negative, spread=2.0)


def coverage(draw, auc, sizes, n_draws, generator):
    """Return the share of intervals that hold the AUC, and their mean width."""
    labels = np.repeat([1, 0], sizes)
    bounds = np.array(
        [auc_interval(labels, np.concatenate(draw(generator, auc, *sizes))) for _ in range(n_draws)]
    )
    low, high = bounds.T
    return np.mean((low <= auc) & (auc <= high)), np.mean(high - low)


def main():
    """Print the table and its smallest share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n_draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator, start, rows, shares = np.random.default_rng(given.seed), time.time(), [], []
    for sizes in SIZES:
        for draw in (normal, wide, exponential):
            row = {"n": sum(sizes), "positive": sizes[0], "scores": draw.__name__}
            for auc in AUCS:
                share, width = coverage(draw, auc, sizes, given.n_draws, generator)
                row[f"AUC {auc}"] = f"{share:.3f} ({width:.2f})"
                shares.append(share)
            rows.append(row)
            print(row, flush=True)
    print(pd.DataFrame(rows).to_string(index=False))
    print(
        f"smallest share {min(shares):.3f}, largest {max(shares):.3f} of {len(shares)} cells with "
        f"{given.n_draws} data sets each (standard error at 0.95: "
        f"{np.sqrt(0.95 * 0.05 / given.n_draws):.4f}); {time.time() - start:.0f} s"
    )
    print(platform.platform(), versions())


if __name__ == "__main__":
    main()
