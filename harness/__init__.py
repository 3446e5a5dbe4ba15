"""Ablation and benchmark harness for Dispersive Loss (Wang & He, arXiv 2506.09027).

The public API are the losses and the tap, for trainers of one's own: docs/library.md. torch is imported with the first
of them, and nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.method.loss_modules import ContrastiveLoss, DispersiveLoss
    from harness.method.tap import tap

__all__ = ["ContrastiveLoss", "DispersiveLoss", "tap"]


def __getattr__(name: str) -> Any:
    if name == "tap":
        from harness.method.tap import tap

        return tap
    if name in __all__:
        from harness.method import loss_modules

        return getattr(loss_modules, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
