"""For each data set: its files below the root, their published checksums, and where to get them."""

from fewshot.datasets.cifar_fs import PICKLE_MD5
from fewshot.datasets.download import Item
from fewshot.datasets.mini_imagenet import describe_copy
from fewshot.datasets.mini_imagenet_layouts import EXPECTED

_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
_CUB = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1"
_EURO = "https://github.com/kaa/coins-dataset/archive/dbfaaa6c0d3d0677547039087055f03fb7c2ab64.zip"
_IMAGENET = "ImageNet (ILSVRC-2012), which asks for an account at https://image-net.org"

# The md5 sums of Omniglot, CIFAR-100 and CUB are those that torchvision (datasets/omniglot.py, cifar.py) and the
# Caltech archive publish; the sha256 sums are of repacked copies with the same images (see data/README.md).
_CIFAR = [
    Item(
        "cifar_fs/cifar-100-python/",
        files={name: f"md5:{md5}" for name, md5 in PICKLE_MD5.items()},
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        url_checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
        inner="cifar-100-python",
    ),
    Item("cifar-100-python/", files={name: f"md5:{md5}" for name, md5 in PICKLE_MD5.items()}),
    Item(
        "cifar_fs/cifar100_webp.zip",
        ("sha256:1bf4985571ba106f3361abecb0384478218ef3c5bf45f435a4373f537a1bd379",),
    ),
]

# The items that each data set needs, each as a list of alternatives, of which the first is fetched.
NEEDS: dict[str, list[list[Item]]] = {
    "omniglot": [
        [
            Item(
                "omniglot/images_background.zip",
                (
                    "md5:68d2efa1b9178cc56df9314c21c6e718",
                    "sha256:550fe080787992f2c7fe22e9f482e029b13a89340e85e01937b5aa644b951cb1",
                ),
                url=f"{_OMNIGLOT}/images_background.zip",
            )
        ],
        [
            Item(
                "omniglot/images_evaluation.zip",
                (
                    "md5:6b91aef0f799c5bb55b94e3f2daec811",
                    "sha256:ee286c09ec0cadf09c4f1f3a5a24417edb85612e7547a461153e28b5cebea000",
                ),
                url=f"{_OMNIGLOT}/images_evaluation.zip",
            )
        ],
    ],
    "cifar_fs": [_CIFAR],
    "fc100": [_CIFAR],
    "cub": [
        [
            Item(
                "cub/CUB_200_2011/",
                n_images=11_788,
                url=_CUB,
                url_checksum="md5:97eceeb196236b17998738112f37df78",
                inner="CUB_200_2011",
            ),
            Item("cub/images/", n_images=11_788),
        ]
    ],
    "euro_coins": [
        [
            Item(
                "euro_coins/classified/train/",
                n_images=1_291,
                url=_EURO,
                inner="coins-dataset-*/classified/train",
            ),
            Item(
                "euro_coins/euro_coins.zip",
                ("sha256:fdce89dc486366ca5f2fcc2097017a01a4e15567c1f3f17fcf96c458c08bdbcb",),
            ),
        ]
    ],
    "world_coins": [
        [
            Item(
                "world_coins/coins/data/",
                advice="https://www.kaggle.com/datasets/wanderdust/coin-images (needs a login), unpacked",
            ),
            Item(
                "world_coins/world_coins_211_84.zip",
                ("sha256:a5c23728c5456fce1e65139f6921adad6184ddc7543aa3fc152e1eabf6b0cbde",),
            ),
        ]
    ],
    "gtsrb": [
        [
            Item(
                "gtsrb/GTSRB/Final_Training/",
                n_images=39_209,
                url="https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/GTSRB_Final_Training_Images.zip",
                inner="GTSRB/Final_Training",
            )
        ]
    ],
    "mini_imagenet": [
        [
            Item(
                "mini_imagenet/",
                describe=describe_copy,
                advice=f"{_IMAGENET}: {EXPECTED}",
            )
        ]
    ],
    "tiered_imagenet": [
        [
            Item(
                "tiered_imagenet/",
                n_images=779_165,
                advice=f"{_IMAGENET}: train/, val/, test/ with one folder per class; "
                "https://github.com/renmengye/few-shot-ssl-public says how the authors prepared it",
            )
        ]
    ],
}
