"""`fewshot demo`: a classifier of coins that come with the package, from fitting to a page of answers."""

import webbrowser
from pathlib import Path

from fewshot.config import DemoConfig, FitPhotographsConfig, PredictPhotographsConfig
from fewshot.photographs.commands import fit_folder, predict_folder

COINS = Path(__file__).parent / "demo_coins"  # support/ and ask/: crops of other photographs, see its LICENSE


def show(config: DemoConfig) -> Path:
    """Fit a classifier to the package's coins, ask it about others, and write and open the page; returns its path."""
    out = Path(config.out)
    model, page = out / "coins.fewshot", out / "answers.html"
    print("Four euro coins, four photographs each. You would type:\n")
    print(f"  fewshot fit --support coins/ --groups '(.*)_' --out {model} \\")
    print("    --find_circle true --rotation_invariant 8 --precision float32\n")
    fit_folder(
        FitPhotographsConfig(
            support=str(COINS / "support"),
            groups="(.*)_",
            out=str(model),
            find_circle=True,
            rotation_invariant=8,
            precision="float32",
        )
    )
    print(f"\n  fewshot predict photos/ --model {model} --csv {out / 'answers.csv'} --html {page}\n")
    answers = predict_folder(
        PredictPhotographsConfig(str(COINS / "ask"), str(model), str(out / "answers.csv"), str(page))
    )
    for answer in answers:
        print(f"  {answer.path}: {answer.answer} ({answer.sure:.0%})")
    if config.open:
        webbrowser.open(page.resolve().as_uri())
    print("\nNow with photographs of your own: one folder a class, four in each are enough to begin.")
    return page
