"""Import torchvision without torch's compiler, which one of its operations pulls in.

`torchvision.ops.roi_align` imports `torch._dynamo` for one predicate, and that import costs more than all others
together (5 to 8 s of CPU here). Every job of the workflow is a process of its own, and none compiles anything.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def _torchvision() -> Any:
    names = ("torch._dynamo", "torch._dynamo.utils")
    if "torchvision" in sys.modules or any(name in sys.modules for name in names):
        return importlib.import_module("torchvision")
    stubs = {name: ModuleType(name) for name in names}
    stubs["torch._dynamo.utils"].is_compile_supported = lambda device: False  # type: ignore[attr-defined]
    sys.modules.update(stubs)
    try:
        return importlib.import_module("torchvision")
    except (ImportError, AttributeError):
        # Another release of torchvision asks for more; then the import takes its time.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        return None
    finally:
        for name, stub in stubs.items():
            if sys.modules.get(name) is stub:
                del sys.modules[name]


torchvision: Any = _torchvision() or importlib.import_module("torchvision")
