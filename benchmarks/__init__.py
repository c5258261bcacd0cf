"""What Holdfast costs, measured: ratios within one run, on the machine it runs on.

Absolute numbers depend on the machine and its neighbours; whoever changes the data plane looks at the ratios.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "layers/core/python"))
