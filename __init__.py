"""cvmprof: where did the time go between the model file and the GPU?"""

from __future__ import annotations

__version__ = "0.1.0"
