"""The products of the paper's transformer in bf16 and in FP8, with the cost of rounding to FP8.

    python -m benchmarks.products [--batch 64 256]

Twelve layers, forward and backward, with random data at the sizes of wav2vec 2.0 base; each variant is one CUDA graph.
FP8 products are `torch._scaled_mm` with one scale per matrix and e4m3 for all. Rounding is one Triton kernel per
matrix: it reads bf16, writes the matrix in FP8 and its transpose if a product needs that, and keeps the largest value
for the next step's scale. The products for the weights' gradients sum over frames, so they need both of their matrices
transposed.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchmarks.paper_step import measure
from benchmarks.parts import graphed

LAYERS = 12
FRAMES = 149
PRODUCTS = {"queries, keys, values": (2_304, 768), "output": (768, 768), "up": (3_072, 768), "down": (768, 3_072)}
LARGEST = 448.0  # of e4m3
TILE = 64


@triton.jit
def _round(source, straight, turned, largest, scale, rows, columns, tile: tl.constexpr, turn: tl.constexpr):
    across, down = tl.program_id(0) * tile + tl.arange(0, tile), tl.program_id(1) * tile + tl.arange(0, tile)
    inside = (down[:, None] < rows) & (across[None] < columns)
    values = tl.load(source + down[:, None] * columns + across[None], inside, other=0.0).to(tl.float32)
    tl.atomic_max(largest, tl.max(tl.abs(values)))
    rounded = (values * tl.load(scale)).to(tl.float8e4nv)
    tl.store(straight + down[:, None] * columns + across[None], rounded, inside)
    if turn:
        tl.store(turned + across[:, None] * rows + down[None], tl.trans(rounded), tl.trans(inside))


class Rounded:
    """A matrix (M, N) in FP8 and, on request, its transpose."""

    def __init__(self, values: Tensor, turn: bool) -> None:
        self.values, self.turn = values, turn
        self.straight = torch.empty_like(values, dtype=torch.float8_e4m3fn)
        self.turned = values.new_empty(values.shape[::-1], dtype=torch.float8_e4m3fn)
        self.largest = torch.zeros((), device=values.device)
        self.scale = LARGEST / values.abs().max().float()
        self.back = 1 / self.scale
        self.fill()

    def fill(self) -> None:
        """Round the matrix again."""
        rows, columns = self.values.shape
        grid = triton.cdiv(columns, TILE), triton.cdiv(rows, TILE)
        _round[grid](
            self.values, self.straight, self.turned, self.largest, self.scale, rows, columns, TILE, self.turn
        )  # fmt: skip


class Product:
    """One linear map, forward and backward: rows (M, K), weight (N, K), gradient of the result (M, N)."""

    def __init__(self, rows: int, wide: int, deep: int, fp8_weights: bool, fast: bool) -> None:
        self.fast, self.fp8_weights = fast, fp8_weights
        shapes = (rows, deep), (wide, deep), (rows, wide)
        self.rows, self.weight, self.gradient = (
            torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in shapes
        )
        self.rounded = [
            Rounded(self.rows, fp8_weights),
            Rounded(self.weight, True),
            Rounded(self.gradient, fp8_weights),
        ]

    def bf16(self) -> tuple[Tensor, ...]:
        """Result, gradient of the rows, gradient of the weight."""
        wide = torch.mm(self.gradient.T, self.rows, out_dtype=torch.float32)
        return self.rows @ self.weight.T, self.gradient @ self.weight, wide

    def fp8(self) -> tuple[Tensor, ...]:
        """The same three products in FP8, from rounded matrices."""
        rows, weight, gradient = self.rounded
        result = self._product(rows.straight, weight.straight.T, rows.back * weight.back)
        to_rows = self._product(gradient.straight, weight.turned.T, gradient.back * weight.back)
        if not self.fp8_weights:
            return result, to_rows, torch.mm(self.gradient.T, self.rows, out_dtype=torch.float32)
        scale = gradient.back * rows.back
        return result, to_rows, self._product(gradient.turned, rows.turned.T, scale, torch.float32)

    def _product(self, first: Tensor, second: Tensor, scale: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch._scaled_mm(
            first, second, scale_a=scale, scale_b=torch.ones_like(scale), out_dtype=dtype, use_fast_accum=self.fast
        )

    def rounding(self) -> None:
        """Round all three matrices."""
        for part in self.rounded:
            part.fill()


def distances(product: Product) -> list[float]:
    """Relative distances of the three results from float32: in bf16, then in FP8."""
    rows, weight, gradient = (part.float() for part in (product.rows, product.weight, product.gradient))
    exact = [rows @ weight.T, gradient @ weight, gradient.T @ rows]
    ways = (*product.bf16(), *product.fp8())
    return [float((found.float() - true).norm() / true.norm()) for found, true in zip(ways, exact * 2, strict=True)]


def times(size: int, seconds: float) -> None:
    """Print one line per variant: milliseconds of the products of all layers."""
    device = torch.device("cuda")
    print(f"\nbatch {size}: ms of {LAYERS} layers", flush=True)
    for title, fp8_weights, fast in (
        ("weights' gradients in bf16", False, True),
        ("all in FP8", True, True),
        ("all in FP8, exact sums", True, False),
    ):
        chain = [
            Product(size * FRAMES, *shape, fp8_weights, fast) for _ in range(3) for shape in PRODUCTS.values()
        ]  # data of three layers, so that no matrix is still in the cache when it is read again

        def whole(method: Callable[[Product], object], chain: list[Product] = chain) -> Callable[[], object]:
            return graphed(lambda: [method(one) for one in chain])

        ways = {"bf16": Product.bf16, "FP8": Product.fp8, "rounding": Product.rounding}
        found = {name: 4e3 * measure(whole(way), device, seconds) for name, way in ways.items()}
        print(f"{title:28} " + "  ".join(f"{name} {value:6.2f}" for name, value in found.items()), flush=True)
        far = torch.tensor([distances(one) for one in chain[:4]]).mean(0)
        print(" " * 28, "distance from float32:", " ".join(f"{value:.1e}" for value in far.tolist()), flush=True)
        del chain


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="segments per step")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each figure")
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    for size in arguments.batch:
        times(size, arguments.seconds)


if __name__ == "__main__":
    main()
