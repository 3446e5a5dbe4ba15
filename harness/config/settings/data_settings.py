"""The training set, and what is drawn and measured against it."""

from typing import Annotated, Literal

from pydantic import Field

from harness.config.settings.values import Count, Flag, Frozen, Line, Name, Real, Whole

DATASETS = ("digits", "fashion-mnist", "cifar10", "cifar10-5000")  # that are built in, beside packed latents
FEATURES = ("classifier", "inception-v3-compat")  # that are built in


class Data(Frozen):
    """The training set, by what the network must know of it; the engine checks the files against these numbers."""

    name: Name = Field(description="data set: digits, fashion-mnist, cifar10, cifar10-5000, imagenet256")
    channels: Count = Field(description="channels of an image or latent")
    size: Count = Field(description="height and width of an image or latent")
    classes: Count = Field(description="number of labels")
    flip: Flag = Field(description="horizontal flips, each with probability one half")
    moments: Literal["float16"] | None = Field(
        None, description="float16: of latents packed with harness encode --moments float16; by default float32"
    )
    subset: Count | None = Field(
        None, description="images that are trained on, drawn by the run's seed, of all classes alike; by default all"
    )


class FolderData(Frozen):
    """What is written of a folder of small pictures as the training set; `PluginParts` makes `Data` of it."""

    name: Literal["folder"] = Field(description="folder: the pictures in a folder of yours, known by their content")
    path: Line = Field(description="the folder, from where one stands: a folder in it for each class, or none")
    size: Count = Field(description="height and width that the pictures are cut and resized to")
    split: Annotated[Real, Field(gt=0, lt=1)] | None = Field(
        None, description="share that is trained on, chosen by content; 0.8, or what folders train and test hold"
    )
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour; by default as the pictures are")
    classes: Count | None = Field(None, description="number of classes; by default as the folder has")
    flip: Flag = Field(False, description="horizontal flips, each with probability one half")
    subset: Count | None = Field(None, description="images that are trained on, as of any data set; by default all")


class FolderSettings(Frozen):
    """The settings of which one is a folder of pictures."""

    data: FolderData


class EvaluationSettings(Frozen):
    """What is drawn and what it is measured against."""

    samples: Whole = Field(50_000, ge=4, description="images drawn for each measurement")
    labels: Literal["random", "balanced"] = Field("random", description="class labels of the drawn images")
    features: Name = Field(
        "inception-v3-compat", description="network whose features are compared: classifier, inception-v3-compat"
    )
    reference: Literal["train", "test"] = Field("train", description="split of the data set that is the reference")
    reference_part: Annotated[Whole, Field(ge=6)] | None = Field(
        None,
        description="images of it, drawn once, whose balls count for precision, recall, density and coverage (ADM's "
        "suite: 10,000); by default all",
    )
    held_out: Annotated[Whole, Field(ge=10)] | None = Field(
        None,
        description="draws (image, noise level, noise) at which the denoising loss is measured on held-out and on "
        "training images, and the copying of training images beside it; by default neither is",
    )
    metrics: tuple[Name, ...] | None = Field(None, description="metrics of plug-ins that are measured as well")
    weights: Literal["ema", "raw"] = Field("ema", description="the moving average of the weights, or the last ones")
