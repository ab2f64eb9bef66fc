"""Declares the subcommands for a person's photographs: name, help, examples and options."""

from fewshot.commands.command import Command
from fewshot.config import (
    CheckPhotographsConfig,
    ConfidenceConfig,
    DemoConfig,
    ExportConfig,
    FitPhotographsConfig,
    MonitorConfig,
    PredictPhotographsConfig,
    ServeConfig,
    SuggestPhotographsConfig,
)

PHOTOGRAPH_COMMANDS = {
    "demo": Command(
        DemoConfig,
        "fit a classifier to coins that come with the package, and show its answers",
        "Fit a classifier to photographs of coins that come with the package, ask it about others, and show the page "
        "of its answers. Nothing is fetched; the network's weights come from the extra [pretrained].",
        ("fewshot demo", "fewshot demo --open false", "fewshot demo --out coins/"),
    ),
    "check": Command(
        CheckPhotographsConfig,
        "look at a folder of photographs: what to mend, what to expect",
        "Say what is to be mended in a folder of photographs, one folder a class, and what accuracy they allow.",
        (
            "fewshot check --support my_coins/ --html check.html",
            "fewshot check --support my_coins/ --estimate false",
            "fewshot check --support my_coins/ --groups '(.*)_' --json findings.json",
        ),
    ),
    "fit": Command(
        FitPhotographsConfig,
        "fit a classifier to a folder of photographs",
        "Fit a classifier to a folder of photographs, one folder a class, and write it to a file.",
        (
            "fewshot fit --support my_coins/ --out coins.fewshot",
            "fewshot fit --support my_birds/ --out birds.fewshot --false_accept_rate 0.1",
            "fewshot fit --support my_coins/ --out new.fewshot --corrections corrections.csv --photos photos/",
        ),
    ),
    "predict": Command(
        PredictPhotographsConfig,
        "ask a fitted classifier about photographs",
        "Ask a fitted classifier about a photograph, or about a folder of them.",
        (
            "fewshot predict photos/ --model coins.fewshot",
            "fewshot predict photos/ --model coins.fewshot --csv out.csv --html report.html",
            "fewshot predict one.jpg --model coins.fewshot",
        ),
        ("photos",),
    ),
    "suggest": Command(
        SuggestPhotographsConfig,
        "choose the photographs to label next",
        "Choose the photographs of a folder whose labels would help a fitted classifier most: those that stand for "
        "many others and are unlike what it knows. Label them on the page, and fit again with --corrections.",
        (
            "fewshot suggest photos/ --model coins.fewshot --html label.html",
            "fewshot suggest photos/ --model coins.fewshot --n_suggestions 20 --csv corrections.csv",
            "fewshot suggest photos/ --model coins.fewshot --groups '(.*)_'",
        ),
        ("photos",),
    ),
    "export": Command(
        ExportConfig,
        "write a classifier as a folder that needs neither torch nor fewshot",
        "Write a fitted classifier as a folder that stands alone: the network as ONNX, the head, and a predictor that "
        "needs numpy, onnxruntime and pillow; python FOLDER/predictor.py photo.jpg answers. With --run_dir the method "
        "of a run, which learns classes from photographs that it is given.",
        (
            "fewshot export --model coins.fewshot --out coins/",
            "fewshot export --model coins.fewshot --out coins/ --int8 true --photos more_coins/",
            "fewshot export --run_dir runs/omniglot --out glyphs/",
        ),
        module="exporting",
    ),
    "serve": Command(
        ServeConfig,
        "serve an exported classifier: a page for people, HTTP for programs",
        "Serve a folder that fewshot export wrote: a page on which photographs are dropped and classes are added, and "
        "the same over HTTP (POST /predict, POST and DELETE /classes/NAME, GET /healthz, /metrics, /docs). Only this "
        "machine reaches it unless --host names another address, which needs a token. An added class is stored in the "
        "folder before it is acknowledged. Needs the extra [serve].",
        (
            "fewshot serve --model coins/",
            "fewshot serve --model coins/ --port 9000 --max_mib 8",
            "fewshot serve --model coins/ --host 0.0.0.0 --token_file token.txt",
        ),
    ),
    "monitor": Command(
        MonitorConfig,
        "say whether photographs have changed since the classifier was fitted",
        "Read the drift record of predict --watch or serve --watch, and say whether photographs have changed since the "
        "classifier was fitted, and whether refusals rise, by a test whose rate of false alarms is chosen. The exit "
        "status is 1 where one has an alarm.",
        (
            "fewshot monitor coins.jsonl",
            "fewshot monitor coins.jsonl --html monitor.html --json monitor.json",
            "fewshot monitor coins.jsonl --since 2026-11-28 --false_alarm_rate 0.001",
        ),
        ("record",),
    ),
    "confidence": Command(
        ConfidenceConfig,
        'measure how reliable probabilities and "none of these" are',
        'Measure how reliable the classifier\'s probabilities and its answer "none of these" are, on episodes with '
        "unknown classes.",
        (
            "fewshot confidence --dataset world_coins",
            "fewshot confidence --dataset cub --methods baseline protonet --n_shot 1",
            "fewshot confidence --false_accept_rate 0.05 --n_episodes 200",
        ),
    ),
}
