"""Models whose weights are loaded next, built without drawing random ones first.

That takes seconds for the paper's sizes, and memory of which the loaded weights then have no use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FILLS = (Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_)
"""What initialisation does to a parameter in place."""


class Undrawn(TorchFunctionMode):
    """A block in which this thread's new parameters keep whatever memory holds; buffers are filled as ever.

    Pages of memory that nothing was written to cost nothing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What `func` gives; a parameter as it is where it would be filled.

        Args:
            func: what is called.
            types: of its arguments.
            args: its arguments by place.
            kwargs: its arguments by name.
        """
        filled = args[0] if args else (kwargs or {}).get("tensor")
        if isinstance(filled, nn.Parameter) and (func in FILLS or getattr(func, "__module__", "") == nn.init.__name__):
            return filled
        return func(*args, **kwargs or {})
