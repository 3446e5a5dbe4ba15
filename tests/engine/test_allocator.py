"""What a process looks at when it gives back what finished work held."""

import subprocess
import sys

FROZEN = """
import gc, weakref
import torch
from harness.engine.allocator import keep_imports, release_memory

class Circle:
    def __init__(self): self.me = self

before = Circle()
keep_imports()
assert gc.get_freeze_count() > 100_000, gc.get_freeze_count()
assert len(gc.get_objects()) < 1000, len(gc.get_objects())
later = Circle()
ends = weakref.ref(later)
del later
release_memory()
assert ends() is None
frozen = gc.get_freeze_count()
keep_imports()
assert gc.get_freeze_count() <= frozen
"""


def test_imports_are_not_looked_at_again_and_what_is_made_later_is_still_released():
    subprocess.run([sys.executable, "-c", FROZEN], check=True)
