"""Find near-duplicate photographs: a perceptual hash finds candidates, correlation of their details confirms them.

A hash alone does not suffice for coins, since every picture shows a disc. Of 1,291 euro coins 483 pairs have hashes
within 10 bits, and of 4,620 world coins 13,326 pairs, nearly all of different coins. Correlating details after dividing
by local contrast keeps 12 and 99 of these pairs: the same coin photographed again, the same die, or copies.
"""

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import uniform_filter

SMALL_PX = 32
N_LOW = 8  # 8 x 8 of the 32 x 32 coefficients: 64 bits
# Of 160 copies, scaled to half size (down to 42 px) and saved as JPEG of quality 60, at most 8 bits differ, and their
# correlations are above 0.86. From thumbnails of 64 px, all such copies, and all JPEG copies of quality 30, of 200 euro
# and 200 world coins are found.
MAX_BITS = 10
MIN_CORRELATION = 0.85
WINDOW_PX = 5
FLOOR = 4.0  # grey values, added to the local contrast: smaller contrast is noise
CHUNK_ROWS = 1024


def shrink_grey(grey: Image.Image) -> np.ndarray:
    """Shrink a grey picture of any size to area means, float32 (32, 32)."""
    small = grey.resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def hash_perceptually(small: np.ndarray) -> np.ndarray:
    """Hash small grey pictures (*, 32, 32) to bool (*, 64): which low frequencies exceed their median.

    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010,
    https://www.phash.org/docs/pubs/thesis_zauner.pdf, section 3.2.1: coefficients 1 to 8 of the discrete cosine
    transform in each direction; without coefficient 0 brightness has no influence.
    """
    low = dctn(small, norm="ortho", axes=(-2, -1))[..., 1 : N_LOW + 1, 1 : N_LOW + 1]
    return (low > np.median(low, (-2, -1), keepdims=True)).reshape(*small.shape[:-2], N_LOW**2)


def extract_details(small: np.ndarray) -> np.ndarray:
    """Remove local mean and contrast from small grey pictures (*, 32, 32): vectors (*, 1024) of length 1.

    The vector of a uniform picture is 0.
    """
    window = (*[1] * (small.ndim - 2), WINDOW_PX, WINDOW_PX)
    residue = small - uniform_filter(small, window, mode="nearest")
    variance = uniform_filter(residue**2, window, mode="nearest").clip(0)  # rounding can make it slightly negative
    vector = (residue / (np.sqrt(variance) + FLOOR)).reshape(*small.shape[:-2], SMALL_PX**2)
    vector -= vector.mean(-1, keepdims=True)
    return (vector / np.linalg.norm(vector, axis=-1, keepdims=True).clip(1e-6)).astype(np.float32)


def mirror_details(vectors: np.ndarray) -> np.ndarray:
    """Compute what `extract_details` makes of the mirrored pictures, left for right: (*, 1024)."""
    square = vectors.reshape(*vectors.shape[:-1], SMALL_PX, SMALL_PX)
    return square[..., ::-1].reshape(vectors.shape)


def find_near_pairs(
    hashes: np.ndarray, detail_vectors: np.ndarray, other: tuple[np.ndarray, np.ndarray] | None = None
) -> list[tuple[int, int, float]]:
    """Find pairs of similar rows, (i, j, correlation) with i < j; `hashes` bool (n, 64), `detail_vectors` (n, 1024).

    `other`: hashes and details of the same pictures changed in some way; row i is then compared with the changed row j.
    """
    signs = np.where(hashes, 1, -1).astype(np.float32)
    other_hashes, other_details = other or (hashes, detail_vectors)
    other_signs = np.where(other_hashes, 1, -1).astype(np.float32)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(signs), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        n_bits = (signs.shape[1] - signs[rows] @ other_signs[start:].T) / 2  # (chunk, n - start): Hamming distances
        i, j = np.nonzero(np.triu(n_bits <= MAX_BITS, 1))
        i, j = i + start, j + start
        for part in range(0, len(i), CHUNK_ROWS):
            a, b = i[part : part + CHUNK_ROWS], j[part : part + CHUNK_ROWS]
            correlation = np.einsum("nd,nd->n", detail_vectors[a], other_details[b])
            alike = correlation >= MIN_CORRELATION
            found += zip(a[alike].tolist(), b[alike].tolist(), correlation[alike].tolist(), strict=True)
    return found


def measure_sharpness(grey: Image.Image) -> float:
    """Measure sharpness as the variance of the Laplacian of a grey picture: it is small if there are no sharp edges.

    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy: a comparative study, ICPR 2000,
    https://doi.org/10.1109/ICPR.2000.903548. Compare only pictures of one size.
    """
    g = np.asarray(grey, np.float32)
    if min(g.shape) < 3:
        return 0.0
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var())
