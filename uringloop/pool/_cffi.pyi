# What cffi makes has no types: the package checks them at its own boundary.
from typing import Any

ffi: Any
lib: Any
