"""How much brighter samples are than real images."""

import numpy as np

from harness.metric_definitions import Definition, Metric


def gap(measured):
    """Return the difference of the mean pixels, in grey levels."""
    if measured.real is None:
        return "it needs the reference's images"
    return abs(_mean(measured.samples) - _mean(measured.real))


def _mean(images):
    return float(np.mean([batch.mean() for batch in images.batches(1, 0, images.count)]))


GAP = Metric(Definition("brightness gap", "lower", 2, "difference of the mean pixels, in grey levels", least=0), gap)
