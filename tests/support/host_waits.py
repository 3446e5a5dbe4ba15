"""What makes the host wait for a GPU: refused as it is dispatched, on whatever device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}


class HostWait(Exception):
    pass


class NoHostWaits(TorchDispatchMode):
    """Raises HostWait where a number is read, a shape depends on data, or ordinary memory is copied to a device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.overloadpacket.__name__, kwargs or {}
        if name in WAITS:
            raise HostWait(name)
        if name in ("index", "index_put", "index_put_") and any(is_mask(index) for index in args[1]):
            raise HostWait(f"{name} by a mask")
        result = function(*args, **kwargs)
        if name in ("_to_copy", "copy_") and isinstance(result, torch.Tensor):
            source = args[1] if name == "copy_" else args[0]
            if (source.device.type == "cpu") != (result.device.type == "cpu"):
                raise HostWait(f"{name} from {source.device} to {result.device}")
        return result


def is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)
