"""Early stopping: find the best number of steps by images that are held out of the support."""

from torch.nn import functional as F

from fewshot.methods.finetune.descent import descend
from fewshot.methods.finetune.network import Network
from fewshot.methods.finetune.options import Descent
from fewshot.methods.finetune.support import Support


def find_best_step(network: Network, train: Support, judged: Support, options: Descent) -> int:
    """Find the number of steps on `train` (0 or more) after which the mean loss on `judged` is lowest.

    The descent ends `patience_steps` after the best step so far; `network` keeps the weights of the last step.
    """
    images = network.prepare(judged.images)
    features = network.embed(images, options.batch_images) if network.frozen else None

    def loss() -> float:
        now = network.embed(images, options.batch_images) if features is None else features
        with network.reading():
            return float(F.cross_entropy(network.logits(now), judged.labels))

    best, lowest = 0, loss()

    def watch(step: int) -> bool:
        nonlocal best, lowest
        if (value := loss()) < lowest:
            best, lowest = step, value
        return step - best >= options.patience_steps

    descend(network, train, options, options.steps, watch)
    return best
