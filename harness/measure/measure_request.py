"""What a measurement is asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.config.spec import EvalSpec, TrainSpec
from harness.measure.extractors.extractor import BATCH


@dataclass(frozen=True)
class KeptNetwork:
    """The network that drew the samples, as its training keeps it. folder: that of its weights."""

    train: TrainSpec
    evaluation: EvalSpec
    folder: Path


@dataclass(frozen=True)
class MeasureRequest:
    """What samples are measured against and with, and where things are kept."""

    reference: str  # DATA_SET:SPLIT, or the path of an .npz or a folder
    features: str  # "classifier", "inception-v3-compat", or a model of timm
    data: Path  # folder of the data sets
    cache: Path  # folder for the classifier and the reference features, shared by all runs
    weights: Path | None = None  # by default `<data>/inception-v3-compat.pth` or what timm publishes
    device: str | None = None  # by default the GPU where there is one
    batch: int = BATCH
    intervals: bool = False
    metrics: tuple[str, ...] = ()  # beside those of every measurement: of held-out images, of plug-ins
    part: int | None = None  # images of the reference whose balls count; by default all
    trained_on: np.ndarray | None = None  # of the images of the data set's training split; None: not known
    network: KeptNetwork | None = None  # that drew the samples, where its losses are measured
    scratch: Path | None = None  # folder for what is measured already, which a kill leaves; None: in memory alone
