"""Write the golden files again: `python -m tests.golden`.

Only after an intended change of results, with a line in the changelog under Results.
"""

import tempfile
from pathlib import Path

from tests.golden.trace import TRACE, trace

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        TRACE.write_text(trace(Path(folder)))
