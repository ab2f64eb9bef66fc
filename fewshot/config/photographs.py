"""Options of the commands that check, fit and apply classifiers of a user's own photographs."""

from dataclasses import dataclass, field
from typing import Any

from fewshot.config.classifier import AnswerOptions, ClassifierOptions, RefusalOptions
from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision


@dataclass(kw_only=True)
class PhotographsConfig(ClassifierOptions):
    """A folder of labelled photographs, and the options of their classifier."""

    support: str
    """folder that contains one folder of photographs for each class"""
    groups: str | None = None
    """which images belong together (one photograph, specimen or video): a regular expression that finds the group in a
    file's name, or a csv file with the header `file,group`"""
    skip_bad_images: bool = False
    """warn of unreadable photographs and leave them out"""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules of your own that register methods, data sets or backbones"""

    def __post_init__(self) -> None:
        if self.backbone is None and self.run_dir is None:
            raise ConfigError("photographs need a backbone (or a run_dir): without one a classifier is of features")


@dataclass(kw_only=True)
class FitPhotographsConfig(PhotographsConfig, AnswerOptions):
    """Fit a classifier to photographs and write it to a file."""

    out: str
    """file for the classifier"""
    corrections: list[str] = field(default_factory=list)
    """csv files `file,class`, as the page of `fewshot predict` saves them: photographs to add, or to put in another
    class; one for each round of corrections, the latest last"""
    photos: list[str] = field(default_factory=list)
    """folder that the files of --corrections are relative to, one for all or one for each (default: the one that holds
    the csv file)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_refusals()
        if len(self.photos) not in {0, min(1, len(self.corrections)), len(self.corrections)}:
            raise ConfigError(
                "--photos is the folder of the files in --corrections: give one for all of these or one for each; got "
                f"{len(self.photos)} for {len(self.corrections)}"
            )


@dataclass(kw_only=True)
class CheckPhotographsConfig(PhotographsConfig, RefusalOptions):
    """Check photographs before a classifier is fitted to them."""

    html: str | None = None
    """file for a page with pictures"""
    json: str | None = None
    """file for the findings"""
    estimate: bool = True
    """compute features of the photographs and estimate the accuracy of a classifier fitted to them"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_refusals()


@dataclass
class PredictPhotographsConfig:
    """Classify photographs with a fitted classifier."""

    photos: str
    """a photograph, or a folder of them; inside, a folder with the name of a class gives the true class of its files"""
    model: str | None = None
    """file of the classifier (required)"""
    csv: str | None = None
    """file for the predictions (default: print them)"""
    html: str | None = None
    """file for a page with pictures"""
    coverage: float = 0.95
    """share of the sets of classes in table and page that hold the right one (0: no sets)"""
    watch: str | None = None
    """file to which numbers about each answer are appended, for `fewshot monitor`; no pictures, no names of files"""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules of your own from which the classifier takes its method or backbone"""

    def __post_init__(self) -> None:
        if self.model is None:
            raise ConfigError("--model names the file of a classifier, as `fewshot fit` writes it")
        if not 0 <= self.coverage < 1:
            raise ConfigError(f"coverage is a share between 0 and 1, got {self.coverage}")


@dataclass(kw_only=True)
class ExportConfig:
    """What is exported, and where it goes."""

    out: str
    """folder for the predictor"""
    model: str | None = None
    """file of the classifier, as `fewshot fit` writes it"""
    run_dir: str | None = None
    """folder of a finished run in its place: its method then learns classes from photographs that it is given"""
    int8: bool = False
    """weights of 8 bits: a quarter of the size; name photos to have the loss measured"""
    photos: str | None = None
    """folder of photographs, one folder a class, that the files are compared with the classifier on"""
    groups: str | None = None
    """of photos: images of one photograph, specimen or video, as for fit"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what the classifier takes from them"""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.run_dir is None):
            raise ConfigError("export takes a classifier (--model FILE) or a run (--run_dir FOLDER), one of them")
        if self.run_dir is not None and self.photos is not None:
            raise ConfigError("a run has no classes yet that photographs could be asked about: leave out --photos")


@dataclass(kw_only=True)
class ServeConfig:
    """An exported classifier, where it is served, and what is taken at most."""

    model: str
    """folder that `fewshot export` wrote; classes that are added are stored there"""
    host: str = "127.0.0.1"
    """address to listen at; one that other machines reach needs a token, for questions too"""
    port: int = 8000
    """port to listen at"""
    token_file: str | None = None
    """file with the token that changes of classes need (default: FEWSHOT_TOKEN of the environment, else one is made up
    and printed)"""
    max_mib: int = 32
    """size of one request, in MiB"""
    max_photos: int = 64
    """photographs in one request"""
    max_megapixels: int = 50
    """pixels of a photograph that is opened; a larger JPEG is opened at a fraction of its size"""
    max_waiting: int = 1024
    """photographs that wait for the network; more are told to come again"""
    max_batch: int = 32
    """photographs of several requests that are encoded in one call"""
    timeout_seconds: float = 30.0
    """time for a request to arrive, and again until it is answered"""
    watch: str | None = None
    """file to which numbers about each answer are appended, for `fewshot monitor`; neither pictures nor names of files,
    nothing of who asked (default: none)"""
    coverage: float = 0.95
    """share of the sets of classes that are to hold the right one; an answer has none where that cannot be promised"""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ConfigError(f"port is a number from 1 to 65535, got {self.port}")
        for name in ("max_mib", "max_photos", "max_megapixels", "max_waiting", "max_batch", "timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is above 0, got {getattr(self, name)}")
        if not 0 < self.coverage < 1:
            raise ConfigError(f"coverage is a share between 0 and 1, got {self.coverage}")


@dataclass(kw_only=True)
class DemoConfig:
    """Where the demonstration leaves its files."""

    out: str = "fewshot-demo"
    """folder for the classifier, the answers and the page"""
    open: bool = True
    """show the page in a web browser"""


@dataclass
class SuggestPhotographsConfig:
    """Unlabelled photographs of which some are chosen to be labelled next."""

    photos: str
    """folder of unlabelled photographs"""
    model: str | None = None
    """file of the classifier (needed)"""
    n_suggestions: int = 8
    """how many to suggest"""
    groups: str | None = None
    """images of one photograph, specimen or video, of which one is suggested; as for fit"""
    csv: str | None = None
    """file for the suggestions, to be filled in and given to `fewshot fit --corrections` (default: they are printed)"""
    html: str | None = None
    """file for a page with pictures, on which they can be labelled"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what the classifier takes from them"""

    def __post_init__(self) -> None:
        if self.model is None:
            raise ConfigError("--model names the file of a classifier, as `fewshot fit` writes it")
        if self.n_suggestions < 1:
            raise ConfigError(f"n_suggestions is a number of photographs, at least 1, got {self.n_suggestions}")


@dataclass
class ConfidenceConfig:
    """Measure classifiers on episodes that contain queries of unknown classes."""

    dataset: str = "world_coins"
    """name of a data set"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    split: str = "test"
    """split of the data set"""
    backbone: str = "efficientnet-lite0"
    """name of a backbone, with its published weights"""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """options of the backbone, such as input_px and views"""
    methods: list[str] = field(default_factory=lambda: ["baseline", "protonet", "meta-baseline", "nearest"])
    """methods; without `method_options` each has the default options of the estimator"""
    method_options: dict[str, Any] | None = None
    """options of these methods"""
    n_way: int = 5
    """known classes of an episode"""
    n_unknown: int = 5
    """unknown classes of an episode"""
    n_shot: int = 4
    """support images of each known class"""
    n_query: int = 10
    """query images of each class, known or not"""
    n_episodes: int = 600
    """episodes"""
    seed: int = 0
    """seed of the episodes"""
    disjoint_groups: bool = False
    """no group (photograph, writer, specimen) has images in both support and query of an episode"""
    false_accept_rate: float = 0.1
    """fraction of unknown images that may be accepted"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32; tf32: of GPUs"""
    classes: list[int] | None = None
    """only the classes of these numbers, from the first to before the last (default: all)"""
    max_images: int | None = None
    """at most so many images of each class, evenly spread (default: all)"""
    coverage: float | None = None
    """share of prediction sets that are to hold the right class (default: no sets)"""
    shift: str | None = None
    """what happened to the queries: blur, darker, brighter, smaller, turned, jpeg or noise"""
    suite: str | None = None
    """a YAML file of measurements, each of these options: those that have no record yet are made, and the tables"""
    only: list[str] = field(default_factory=list)
    """these measurements of the suite"""
    results: str = "results/trust"
    """folder of the suite's records"""
    report: str = "docs/results/trust.md"
    """file that holds the suite's tables"""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules of your own that register methods, data sets or backbones"""
