"""Check the data sets on disk, and fetch those that can be had without a login."""

import argparse
import sys

EPILOG = """\
data sets: omniglot cifar_fs fc100 cub euro_coins world_coins gtsrb mini_imagenet tiered_imagenet

For each thing a data set needs, one line says where it belongs and whether it is there:
ok (as published), differs (there, but not as published; it is never replaced) or missing.
world_coins, mini_imagenet and tiered_imagenet need a login: for them it only says what to do.
Ends with status 0 when all is there as published, else 1.

examples:
  python scripts/get_data.py --dataset omniglot cifar_fs
  python scripts/get_data.py --root /data/images --verify_only true
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", nargs="+", action="extend", default=[], metavar="NAME", help="default: all")
    parser.add_argument(
        "--root", metavar="FOLDER", help="the folder that holds them; default: FEWSHOT_DATA, else data/raw"
    )
    parser.add_argument(
        "--verify_only",
        nargs="?",
        choices=["true", "false"],
        const="true",
        default="false",
        help="only check, fetch nothing; default: false",
    )
    arguments = parser.parse_args()

    # Imported here: `--help` and a mistyped option answer at once, without loading torch.
    from fewshot.datasets.download import get_data
    from fewshot.datasets.loading import data_root
    from fewshot.datasets.sources import NEEDS
    from fewshot.errors import FewShotError

    try:
        root = data_root(arguments.root)
        complete = get_data(NEEDS, arguments.dataset, root, arguments.verify_only == "true")
    except FewShotError as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
