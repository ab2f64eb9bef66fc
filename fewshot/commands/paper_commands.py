"""Declares the subcommands for papers' numbers: name, help, examples and options."""

from fewshot.commands.command import Command
from fewshot.config import CompareConfig, EvaluateConfig, ExperimentConfig, PretrainExperimentConfig
from fewshot.config.reproduction import (
    BenchmarkConfig,
    CheckLearningConfig,
    DataConfig,
    EmbedConfig,
    FiguresConfig,
    ListConfig,
    ReproduceConfig,
    ReviewConfig,
    SummarizeConfig,
    SweepConfig,
)

PAPER_COMMANDS = {
    "train": Command(
        ExperimentConfig,
        "train a few-shot method on episodes and measure it",
        "Train a few-shot method on episodes, keep the best weights on validation classes, measure on test classes. "
        "With --method NAME, --backbone NAME or --dataset NAME this help also lists the options of what is named.",
        (
            "fewshot train --max_steps 500",
            "fewshot train --method maml --method_options.inner_steps 5 --train_n_way 5 --run_dir runs/maml",
            "fewshot train --plugins mine.py --method mine --dataset folder --data_root pictures/",
        ),
    ),
    "pretrain": Command(
        PretrainExperimentConfig,
        "train a classifier of the base classes, stage 1 of two-stage methods",
        "Train a classifier of the base classes, stage 1 of two-stage methods, and measure it on episodes of test "
        "classes. Validation and test are few-shot episodes, by the cosine to the mean of each class's support "
        "features; the weights kept are the best on validation classes. fewshot train starts from them with "
        "--pretrained_run FOLDER.",
        (
            "fewshot pretrain --dataset cifar_fs --backbone resnet12 --run_dir runs/stage1",
            "fewshot pretrain --config scripts/recipes/glyphs/pretrain.yaml",
            "fewshot pretrain --classifier cosine --label_smoothing 0.1",
        ),
    ),
    "evaluate": Command(
        EvaluateConfig,
        "measure the weights of a run on episodes of any data set, way and shot",
        "Measure the weights of a run on episodes of any data set, way and shot; write a record per episode.",
        (
            "fewshot evaluate --run_dir runs/omniglot --n_way 20 --n_shot 5",
            "fewshot evaluate --run_dir runs/maml --method_options.test_inner_steps 10",
            "fewshot evaluate --run_dir runs/omniglot --dataset folder --data_root pictures/ --split all",
        ),
    ),
    "embed": Command(
        EmbedConfig,
        "write the features of a data set to a file",
        "Embed every image of a data set once, by the network of a run or by a backbone, and write the features.",
        (
            "fewshot embed --run_dir runs/omniglot --out features.npz",
            "fewshot embed --backbone efficientnet-lite0 --backbone_options.pretrained true --dataset cub --out f.npz",
            "fewshot embed --run_dir runs/omniglot --split train --out base.npz",
        ),
    ),
    "reproduce": Command(
        ReproduceConfig,
        "run the recipes of a data set and make tables of their results",
        "Run the recipes of a data set that have not run yet, and print the tables of what was asked. Interrupted, the "
        "same command goes on where it stopped; a complete run is not repeated. No file that git tracks is changed "
        "without --publish.",
        (
            "fewshot reproduce glyphs --methods protonet maml",
            "fewshot reproduce omniglot --seeds 0 1 2 --budget 60 --n_jobs 2",
            "fewshot reproduce mine --recipes my_recipes/ --report tables.md",
        ),
        ("dataset",),
    ),
    "sweep": Command(
        SweepConfig,
        "train with every combination of some options and several seeds",
        "Train with every combination of some options and several seeds, and put all runs into one table. Interrupted, "
        "the same command goes on where it stopped; a run that fails is tried once more, and named.",
        (
            "fewshot sweep --grid lr=1e-3,3e-4 --seeds 0 1 2 --n_jobs 2",
            "fewshot sweep --config scripts/recipes/glyphs/maml.yaml --grid method_options.inner_steps=1,5",
            "fewshot sweep --grid method=protonet,r2d2 --launcher slurm --slurm.timeout_min 60 --slurm.cpus_per_task 4",
        ),
    ),
    "summarize": Command(
        SummarizeConfig,
        "put finished runs into one table, by what differs between them",
        "Put finished runs into one table: means over seeds, with intervals over episodes and over seeds, a line for "
        "each configuration, a column for each option that differs, and differences paired on identical episodes.",
        (
            "fewshot summarize runs/sweep-train",
            "fewshot summarize runs/a runs/b runs/c --against runs/b --out table.tex",
            "fewshot summarize results/omniglot/protonet-seed0.json results/omniglot/r2d2-seed0.json --format csv",
        ),
        ("runs",),
    ),
    "compare": Command(
        CompareConfig,
        "two runs on the same episodes, or two classifiers on the same photographs, class by class",
        "Measure two runs on the same episodes: paired difference, sign test, differences class by class, a figure. "
        "With a folder of photographs, ask two classifiers about them: exit status 1 where the second is significantly "
        "worse, overall or on a class.",
        (
            "fewshot compare runs/a runs/b",
            "fewshot compare runs/a runs/b --n_way 20 --n_episodes 5000 --out compare/",
            "fewshot compare old.fewshot new.fewshot photos/",
        ),
        ("run_a", "run_b", "photos"),
    ),
    "figures": Command(
        FiguresConfig,
        "draw accuracy against shots, ways and minutes of training",
        "Draw all methods of a data set: accuracy against shots, against ways, and against minutes of training. What "
        "is drawn is kept beside the figures; the same command without runs draws them again from there.",
        (
            "fewshot figures omniglot",
            "fewshot figures glyphs --methods protonet maml",
            "fewshot figures glyphs --episodes 100 --results drawn",
        ),
        ("dataset",),
    ),
    "data": Command(
        DataConfig,
        "check the data sets on disk, and fetch those that need no login",
        "Check the data sets on disk, and fetch those that can be had without a login. For each thing that a data set "
        "needs, one line says where it belongs and whether it is there: ok (as published), differs (there, but not as "
        "published; it is never replaced) or missing. Ends with status 0 when all is there as published, else 1. Data "
        "sets: omniglot cifar_fs fc100 cub euro_coins world_coins gtsrb mini_imagenet tiered_imagenet; of world_coins, "
        "mini_imagenet and tiered_imagenet, which need a login, it only says what to do. With --cache or "
        "--clear_cache it shows or clears the pixels and features that are kept of data sets, wherever these lie.",
        (
            "fewshot data --dataset omniglot cifar_fs",
            "fewshot data --root /data/images --verify_only true",
            "fewshot data --clear_cache 30",
        ),
    ),
    "list": Command(
        ListConfig,
        "list the methods, backbones or data sets",
        "List what is known by name, with one line on each. fewshot train --method NAME --help lists the options.",
        ("fewshot list methods", "fewshot list backbones", "fewshot list datasets --plugins mine.py"),
        ("kind",),
        module="listing",  # a module called list would shadow the builtin in this package
    ),
    "benchmark": Command(
        BenchmarkConfig,
        "measure what the code costs, in time and memory",
        "Measure what the code costs: data path, evaluation, heads, MAML, start-up, and time to an accuracy. "
        "Where other libraries do the same, they are measured beside it. --suite gpu runs the tests and measurements "
        "of a GPU, part by part; exit status 1 where one failed. It needs a copy of the repository.",
        (
            "fewshot benchmark --suite gpu --out gpu",
            "fewshot benchmark --only heads maml --json heads.json",
            "fewshot benchmark --only end-to-end --dataset glyphs --target 0.9",
        ),
    ),
    "guard": Command(
        CheckLearningConfig,
        "train every recipe for seconds and compare it with what it must reach",
        "Train every recipe of glyphs for seconds and compare it with its lower bound; exit status 1 if one falls "
        "below. --calibrate computes the bounds again: mean minus four standard deviations over training seeds, on "
        "validation classes. Bounds that change are announced in CHANGELOG.md. It needs a copy of the repository.",
        (
            "fewshot guard",
            "fewshot guard --recipes protonet maml",
            "fewshot guard --calibrate --recipes protonet --seeds 0 1 2 3 4",
        ),
    ),
    "review": Command(
        ReviewConfig,
        "measure what check, suggest and maps tell about photographs",
        "Measure on four data sets how often check finds a planted wrong label, whether labels that suggest asks for "
        "help more than random ones, and whether the regions that a map shows speak for the answer; write the tables.",
        ("fewshot review", "fewshot review --only suspects --n_repetitions 50", "fewshot review --n_repetitions 0"),
    ),
}
